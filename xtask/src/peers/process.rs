// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process that is spoken to in lines, with an end to how long anybody waits for it.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Result;

/// How long a process may take to leave once it is told to.
const LEAVING: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A running process with all that it starts; none of them outlives this.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    questions: Option<ChildStdin>,
    answers: Receiver<std::io::Result<String>>,
    /// What it complains about; a pipe that nobody reads would stop it once it is full.
    complaints: File,
}

/// What came of waiting for a line.
pub(super) enum Heard {
    Line(String),
    /// It says nothing more.
    End,
    /// It said nothing in the time that it was given.
    Silence,
}

impl Process {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        // A group of its own, so that what it starts can be ended with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        let complaints = tempfile::tempfile()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints.try_clone()?);
        let mut child = command.spawn()?;
        let questions = child.stdin.take();
        let output = child.stdout.take().ok_or("the process has no output")?;
        Ok(Process { child, questions, answers: lines(output), complaints })
    }

    /// Its number among the system's processes.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Gives it a line.
    pub(super) fn say(&mut self, line: &str) -> Result<()> {
        let questions = self.questions.as_mut().ok_or("it takes no input")?;
        Ok(writeln!(questions, "{line}")?)
    }

    /// Its next line, if it comes soon enough.
    pub(super) fn hear(&mut self, limit: Duration) -> Result<Heard> {
        match self.answers.recv_timeout(limit) {
            Ok(line) => Ok(Heard::Line(line?)),
            Err(RecvTimeoutError::Disconnected) => Ok(Heard::End),
            Err(RecvTimeoutError::Timeout) => Ok(Heard::Silence),
        }
    }

    /// How it ended, and the last line that it complained with. One that closed its output and lives on is ended.
    pub(super) fn last_words(&mut self) -> Result<(ExitStatus, Option<String>)> {
        let status = self.leave()?;
        self.complaints.rewind()?;
        let lines = BufReader::new(&self.complaints).lines().map_while(std::io::Result::ok);
        Ok((status, lines.filter(|line| !line.trim().is_empty()).last()))
    }

    /// Ends it at once, with all that it started.
    pub(super) fn kill(&mut self) {
        // It may be gone already, which is as well.
        #[cfg(unix)]
        {
            use rustix::process::{kill_process_group, Pid, Signal};
            if matches!(self.child.try_wait(), Ok(None)) {
                let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            }
        }
        let _ = self.child.kill();
    }

    /// Lets it leave, for which the end of its input is the sign, and ends it if it does not.
    fn leave(&mut self) -> std::io::Result<ExitStatus> {
        self.questions = None;
        let deadline = Instant::now() + LEAVING;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.kill();
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done here about a process that is gone already.
        let _ = self.leave();
    }
}

/// The lines of an output as they come. The thread that reads them ends with the output.
fn lines(output: ChildStdout) -> Receiver<std::io::Result<String>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

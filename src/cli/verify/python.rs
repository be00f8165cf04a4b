// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Python of the user, which runs the other side.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kiln::{Error, Result};
use serde::Deserialize;

use super::args::VerifyArgs;
use super::ties::Ties;
use crate::cli::interrupt::{Interrupt, Signal};

/// The script that it runs.
const SCRIPT: &str = include_str!("oracle.py");
const SCRIPT_FILE: &str = "oracle.py";
const REPORT_FILE: &str = "report.json";
const STDERR_FILE: &str = "stderr";

/// Where the Python is named that the tests and benches use too.
const VARIABLE: &str = "TORCH_PYTHON";
const USUAL: &str = if cfg!(windows) { "python" } else { "python3" };

/// What a Python must be.
const EXPECTED: &str = "a Python with PyTorch 2.0 or later (--python or TORCH_PYTHON names it)";

/// How often it is looked at.
const PERIOD: Duration = Duration::from_millis(10);

/// Most bytes of complaints, and of the report.
const LONGEST_TEXT: u64 = 1 << 20;

/// A Python, and how long it may take.
#[derive(Debug)]
pub(super) struct Python {
    program: OsString,
    limit: Duration,
}

/// How a run ended.
#[derive(Debug)]
pub(super) enum Ran {
    /// With results of this version of PyTorch, and how it decided what rounding decides.
    Done { torch: String, ties: Ties },
    /// A signal came first.
    Stopped(Signal),
}

/// What the script says of itself.
#[derive(Deserialize)]
struct Report {
    torch: Option<String>,
    error: Option<String>,
    expected: Option<String>,
    #[serde(default)]
    ties: Ties,
}

impl Python {
    pub(super) fn new(args: &VerifyArgs) -> Self {
        let named = || std::env::var_os(VARIABLE).filter(|name| !name.is_empty());
        let program = args.python.clone().or_else(named).unwrap_or(USUAL.into());
        Python { program, limit: Duration::from_secs(args.timeout.get()) }
    }

    /// The program, for people.
    pub(super) fn name(&self) -> String {
        Path::new(&self.program).display().to_string()
    }

    /// Runs the script in a folder that holds its task.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such Python, if it has no PyTorch or one that is too old, and if
    /// it fails, says nothing that can be understood, or takes too long; [`Error::Io`] for the folder.
    pub(super) fn run(&self, folder: &Path, interrupt: &Interrupt) -> Result<Ran> {
        let script = folder.join(SCRIPT_FILE);
        fs::write(&script, SCRIPT).map_err(Error::io("write", &script))?;
        let complaints = folder.join(STDERR_FILE);
        let stderr = File::create(&complaints).map_err(Error::io("create", &complaints))?;
        let mut command = Command::new(&self.program);
        command.arg("-B").arg(&script).arg(folder);
        // The script ends with whoever holds the other end.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr);
        let mut running = Running::start(&mut command)
            .map_err(|error| self.refused(EXPECTED, format!("cannot be run: {error}")))?;
        let deadline = Instant::now().checked_add(self.limit);
        let status = loop {
            if let Some(status) = running.ended()? {
                break status;
            }
            if let Some(signal) = interrupt.caught() {
                return Ok(Ran::Stopped(signal));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let seconds = match self.limit.as_secs() {
                    1 => "1 second".into(),
                    more => format!("{more} seconds"),
                };
                let expected = format!("results within {seconds} (--timeout)");
                return Err(self.refused(&expected, "was stopped then"));
            }
            if fs::metadata(&complaints).is_ok_and(|file| file.len() > LONGEST_TEXT) {
                return Err(self.refused(EXPECTED, "complains without an end"));
            }
            sleep(PERIOD);
        };
        drop(running);
        self.judge(status, folder)
    }

    /// What came of a run.
    fn judge(&self, status: ExitStatus, folder: &Path) -> Result<Ran> {
        let report = text(&folder.join(REPORT_FILE));
        let report = report.map(|text| serde_json::from_str::<Report>(&text));
        match (status.success(), report) {
            (_, Some(Ok(Report { error: Some(error), expected, .. }))) => {
                Err(self.refused(expected.as_deref().unwrap_or(EXPECTED), error))
            }
            (true, Some(Ok(Report { torch: Some(torch), ties, .. }))) => {
                Ok(Ran::Done { torch, ties })
            }
            (true, _) => Err(self.refused(EXPECTED, "ended without an answer")),
            (false, _) => {
                let complaints = text(&folder.join(STDERR_FILE)).unwrap_or_default();
                let last = complaints.lines().rev().find(|line| !line.trim().is_empty());
                let last = last.map(|line| format!(": {}", line.trim())).unwrap_or_default();
                Err(self.refused(EXPECTED, format!("failed ({status}){last}")))
            }
        }
    }

    /// That something else was expected of it.
    pub(super) fn refused(&self, expected: &str, what_it_did: impl Display) -> Error {
        let got = format!("{}, which {what_it_did}", self.name());
        Error::argument("python", expected, got)
    }
}

/// A process with all that it starts. None of them outlives this.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> std::io::Result<Self> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        command.spawn().map(Running)
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.0.try_wait().map_err(Error::io("wait for", "python"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        #[cfg(unix)]
        {
            use rustix::process::{kill_process_group, Pid, Signal};
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A short text file, if it is one.
fn text(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    let is_short = found.is_file() && found.len() <= LONGEST_TEXT;
    let bytes = if is_short { fs::read(path).ok()? } else { return None };
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

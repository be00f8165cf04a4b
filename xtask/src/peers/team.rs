// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs that take turns with kiln. One that dies, answers nonsense or nothing takes no other down: it is
//! started again for the next case.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::peer::Peer;
use super::program::{Library, Program};
use crate::Result;

/// Programs for one number of threads.
pub(super) struct Team {
    members: Vec<Member>,
    threads: NonZeroUsize,
    patience: Duration,
}

struct Member {
    library: Library,
    program: Program,
    peer: Option<Peer>,
    version: Option<String>,
    /// Why it cannot be started.
    useless: Option<String>,
}

impl Team {
    pub(super) fn new(
        programs: &[(Library, Program)],
        threads: NonZeroUsize,
        patience: Duration,
    ) -> Self {
        let member = |(library, program): &(Library, Program)| Member {
            library: *library,
            program: program.clone(),
            peer: None,
            version: None,
            useless: None,
        };
        Team { members: programs.iter().map(member).collect(), threads, patience }
    }

    /// Whether a library takes part at all.
    pub(super) fn has(&self, library: Library) -> bool {
        self.members.iter().any(|member| member.library == library)
    }

    /// What the libraries that were started call themselves.
    pub(super) fn versions(&self) -> impl Iterator<Item = (Library, &str)> {
        self.members.iter().filter_map(|member| Some((member.library, member.version.as_deref()?)))
    }

    /// Asks a library's program, which is started if it does not run.
    ///
    /// # Errors
    /// That it cannot be started, and every answer that is none; the program then ends.
    pub(super) fn ask<T>(
        &mut self,
        library: Library,
        question: impl FnOnce(&mut Peer) -> Result<T>,
    ) -> Result<T> {
        let member = self.members.iter_mut().find(|member| member.library == library);
        let member = member.ok_or_else(|| format!("{library} takes no part"))?;
        let answer = question(member.running(self.threads, self.patience)?);
        if answer.is_err() {
            if let Some(peer) = member.peer.take() {
                peer.abandon();
            }
        }
        answer
    }
}

impl Member {
    fn running(&mut self, threads: NonZeroUsize, patience: Duration) -> Result<&mut Peer> {
        if let Some(why) = &self.useless {
            return Err(why.clone().into());
        }
        if self.peer.is_none() {
            match Peer::start(&self.program, threads, patience) {
                Ok(peer) => {
                    self.version = Some(peer.version().to_owned());
                    self.peer = Some(peer);
                }
                Err(why) => self.useless = Some(why.to_string()),
            }
        }
        match &mut self.peer {
            Some(peer) => Ok(peer),
            None => Err(self.useless.clone().unwrap_or_default().into()),
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What takes turns with kiln on the same GPU: processes that stay. One that dies, answers nonsense or nothing takes no
//! other down; it is started again for the next question.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kiln::Precision;

use super::talk::{positive, shown, Talk};
use super::{Args, Result};

const PRODUCT_MILLISECONDS: u64 = 100;
/// The library that is asked for products too.
pub(crate) const TORCH: &str = "torch";
const BURN: &str = "burn";
/// What a library is told that has one way to run a step.
const ONLY_WAY: &str = "default";

/// The processes.
#[derive(Debug)]
pub(crate) struct Team {
    members: Vec<Member>,
    patience: Duration,
}

#[derive(Debug)]
struct Member {
    library: &'static str,
    /// A program and its arguments.
    command: Vec<OsString>,
    /// The ways in which it runs a step, by the names that it knows.
    modes: Vec<String>,
    talk: Option<Talk>,
    version: Option<String>,
    /// Why it cannot be started.
    useless: Option<String>,
}

/// A library, and one way in which it runs a step.
#[derive(Clone, Debug)]
pub(crate) struct Rival {
    library: &'static str,
    mode: String,
}

/// What came of a peer's step under kiln's masks.
#[derive(Debug)]
pub(crate) enum Stepped {
    Loss(f64),
    /// None: its library cannot take masks.
    TakesNoMasks,
    /// None: its library has no such network or precision.
    HasNone(String),
}

impl Team {
    /// Those that were asked for; each is started by its first question.
    pub(crate) fn new(args: &Args) -> Self {
        let device = args.peer_device.clone().unwrap_or_else(|| format!("cuda:{}", args.device));
        let options = [OsString::from("--device"), device.into()];
        let member = |library, program: &[&Path], modes: Vec<String>| {
            let program = program.iter().map(|word| word.as_os_str().to_owned());
            let command = program.chain(options.clone()).collect();
            Member { library, command, modes, talk: None, version: None, useless: None }
        };
        let torch = args.torch.as_deref();
        let torch =
            torch.map(|python| member(TORCH, &[python, &args.torch_script], args.modes.clone()));
        let burn = args.burn.as_deref();
        let burn = burn.map(|program| member(BURN, &[program], vec![ONLY_WAY.to_owned()]));
        let patience = Duration::from_secs(args.patience);
        Team { members: torch.into_iter().chain(burn).collect(), patience }
    }

    /// Every way to run a step.
    pub(crate) fn rivals(&self) -> Vec<Rival> {
        let of = |member: &Member| {
            let library = member.library;
            let rival = move |mode: &String| Rival { library, mode: mode.clone() };
            member.modes.iter().map(rival).collect::<Vec<_>>()
        };
        self.members.iter().flat_map(of).collect()
    }

    /// Whether a library takes part.
    pub(crate) fn has(&self, library: &str) -> bool {
        self.members.iter().any(|member| member.library == library)
    }

    /// What a library that was started calls itself.
    pub(crate) fn version(&self, library: &str) -> Option<String> {
        self.members.iter().find(|member| member.library == library)?.version.clone()
    }

    /// Makes one step from the state in a folder, leaves the result there, and tells the loss.
    pub(crate) fn check(
        &mut self,
        rival: &Rival,
        case: &str,
        precision: Precision,
        at: &Path,
    ) -> Result<Stepped> {
        let question = format!("check {case} {} {precision} {}", rival.mode, at.display());
        self.ask(rival.library, |talk| {
            let answer = talk.ask(&question)?;
            match (answer["loss"].as_f64(), answer["masks"].as_str(), answer["none"].as_str()) {
                (Some(loss), ..) => Ok(Stepped::Loss(loss)),
                (None, Some("none"), _) => Ok(Stepped::TakesNoMasks),
                (None, _, Some(why)) => Ok(Stepped::HasNone(shown(why))),
                _ => Err(format!("the peer: expected a loss, got {}", shown(&answer)).into()),
            }
        })
    }

    /// The median time of a step, in microseconds.
    pub(crate) fn time(
        &mut self,
        rival: &Rival,
        case: &str,
        precision: Precision,
        feed: &str,
        milliseconds: u64,
    ) -> Result<f64> {
        let (mode, feed) = (&rival.mode, feed.replace(' ', "-"));
        let question = format!("time {case} {mode} {precision} {feed} {milliseconds}");
        self.ask(rival.library, |talk| positive(&talk.ask_for(milliseconds, &question)?, "us"))
    }

    /// PyTorch's median time of a product of square matrices, in microseconds.
    pub(crate) fn product(&mut self, n: usize, precision: Precision, form: &str) -> Result<f64> {
        let question = format!("product {n} {precision} {form} {PRODUCT_MILLISECONDS}");
        let ask = |talk: &mut Talk| talk.ask_for(PRODUCT_MILLISECONDS, &question);
        self.ask(TORCH, |talk| positive(&ask(talk)?, "us"))
    }

    /// Asks a library's program, which is started if it does not run.
    fn ask<T>(
        &mut self,
        library: &str,
        question: impl FnOnce(&mut Talk) -> Result<T>,
    ) -> Result<T> {
        let member = self.members.iter_mut().find(|member| member.library == library);
        let member = member.ok_or_else(|| format!("{library} takes no part"))?;
        let answer = question(member.running(self.patience)?);
        if answer.is_err() {
            if let Some(talk) = member.talk.take() {
                talk.abandon();
            }
        }
        answer
    }
}

impl Member {
    fn running(&mut self, patience: Duration) -> Result<&mut Talk> {
        if let Some(why) = &self.useless {
            return Err(why.clone().into());
        }
        if self.talk.is_none() {
            let mut command = Command::new(&self.command[0]);
            command.args(&self.command[1..]);
            let name = self.command[0].to_string_lossy();
            match Talk::start(&mut command, &name, patience) {
                Ok(talk) => {
                    println!("in turns with {} {}", self.library, talk.version());
                    self.version = Some(talk.version().to_owned());
                    self.talk = Some(talk);
                }
                Err(why) => self.useless = Some(why.to_string()),
            }
        }
        match &mut self.talk {
            Some(talk) => Ok(talk),
            None => Err(self.useless.clone().unwrap_or_default().into()),
        }
    }
}

impl Rival {
    /// Its name in rows.
    pub(crate) fn name(&self) -> String {
        match self.mode.as_str() {
            ONLY_WAY => self.library.to_owned(),
            mode => format!("{}-{mode}", self.library),
        }
    }

    pub(crate) fn library(&self) -> &'static str {
        self.library
    }
}

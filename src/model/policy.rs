//! What the user wants done when the job is signalled, stops, fails or takes too long.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::model::outcome::{AttemptEnd, Termination};
use crate::model::signal::Signal;
use crate::model::verdict::{Verdict, VerdictKind};

/// All that the supervisor decides by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `-c`: send SIGCONT to a job that was stopped.
    pub continue_stopped: bool,
    /// `-p`: restart a job that stays stopped.
    pub restart_stopped: bool,
    /// `-r`: restart a job that is gone without a status.
    pub restart_lost: bool,
    /// `-s`: restart a job that a signal ended.
    pub restart_signalled: bool,
    /// `--restart-on`.
    pub restart_on: Vec<RestartCause>,
    /// `--never-on`, which wins.
    pub never_on: Vec<RestartCause>,
    /// `-t`: the bound of all restarts together.
    pub max_restarts: u32,
    /// `--backoff`.
    pub backoff: Backoff,
    /// `--stable`: an attempt that lasted at least this ends the growth of the back-off.
    pub stable: Duration,
    /// `--timeout`, of each attempt.
    pub timeout: Option<Duration>,
    /// `--kill-after`: the grace period between SIGTERM and SIGKILL.
    pub kill_after: Option<Duration>,
    /// `--forward`.
    pub forward: Forward,
    /// `--stragglers`.
    pub stragglers: Stragglers,
    /// `--new-session`.
    pub new_session: bool,
    /// `--on-descendant-loss fail`: a success with losses counts as a failure.
    pub loss_is_failure: bool,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            continue_stopped: false,
            restart_stopped: false,
            restart_lost: false,
            restart_signalled: false,
            restart_on: Vec::new(),
            never_on: Vec::new(),
            max_restarts: 4,
            backoff: Backoff::default(),
            stable: Duration::from_secs(60),
            timeout: None,
            kill_after: None,
            forward: Forward::All,
            stragglers: Stragglers::Leave,
            new_session: false,
            loss_is_failure: false,
        }
    }
}

/// The grace period where `--kill-after` does not say: what batch systems and container
/// managers allow by default.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

impl Policy {
    /// Returns the span between SIGTERM and SIGKILL when we end the job.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.kill_after.unwrap_or(DEFAULT_GRACE)
    }

    /// Returns whether any option may ask for another attempt.
    #[must_use]
    pub fn may_restart(&self) -> bool {
        let asked = self.restart_stopped || self.restart_lost || self.restart_signalled;
        self.max_restarts > 0 && (asked || !self.restart_on.is_empty())
    }
}

/// The range of the waits before a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// No wait is shorter.
    pub min: Duration,
    /// No wait is longer.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { min: Duration::from_secs(1), max: Duration::from_secs(60) }
    }
}

/// Which signals that a process sent to childminder the job should get as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// All but SIGCHLD.
    All,
    /// None: watch and log, as the original did.
    None,
    Only(Vec<Signal>),
}

impl Forward {
    /// Returns whether that signal is to be passed on.
    #[must_use]
    pub fn includes(&self, signal: Signal) -> bool {
        match self {
            Forward::All => signal != Signal::CHLD,
            Forward::None => false,
            Forward::Only(list) => list.contains(&signal),
        }
    }

    /// Returns whether an explicit list names that signal: then it is passed on in any case.
    #[must_use]
    pub fn lists(&self, signal: Signal) -> bool {
        matches!(self, Forward::Only(list) if list.contains(&signal))
    }
}

/// What becomes of processes that outlive the job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stragglers {
    /// Report them and end.
    #[default]
    Leave,
    /// End when they have ended.
    Wait,
    /// End them: SIGTERM, the grace period, SIGKILL.
    Kill,
}

impl Stragglers {
    /// Returns the word of the option.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Stragglers::Leave => "leave",
            Stragglers::Wait => "wait",
            Stragglers::Kill => "kill",
        }
    }
}

/// One item of `--restart-on` or `--never-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartCause {
    /// Anything but success, except a job that never ran: that seldom heals.
    Failure,
    /// The end by any signal.
    AnySignal,
    /// The end by that signal.
    Signal(Signal),
    Exit(u8),
    Verdict(VerdictKind),
}

impl RestartCause {
    /// Returns whether an attempt that ended so is meant.
    #[must_use]
    pub fn matches(self, end: &AttemptEnd, verdict: &Verdict) -> bool {
        let killed_by = match end {
            AttemptEnd::Ended(Termination::Signaled { signal, .. }) => Some(*signal),
            _ => None,
        };
        match self {
            RestartCause::Failure => {
                !verdict.kind.is_success() && verdict.kind != VerdictKind::ExecFailed
            }
            RestartCause::AnySignal => killed_by.is_some(),
            RestartCause::Signal(signal) => killed_by == Some(signal),
            RestartCause::Exit(status) => *end == AttemptEnd::Ended(Termination::Exited(status)),
            RestartCause::Verdict(kind) => verdict.kind == kind,
        }
    }
}

/// An item that names no cause.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownCause {
    text: String,
    reason: String,
}

impl fmt::Display for UnknownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is not a cause: {}", self.text, self.reason)
    }
}

impl std::error::Error for UnknownCause {}

/// The verdicts that may be named as a cause, with the short word for some. The two that mean
/// that somebody wanted the job to stop are not among them: such a job is never restarted.
const NAMED: [(&str, VerdictKind); 16] = [
    ("oom", VerdictKind::OomKilled),
    ("oom_killed", VerdictKind::OomKilled),
    ("descendant_killed", VerdictKind::DescendantKilled),
    ("timeout", VerdictKind::TimedOut),
    ("timed_out", VerdictKind::TimedOut),
    ("crash", VerdictKind::Crashed),
    ("crashed", VerdictKind::Crashed),
    ("broken_pipe", VerdictKind::BrokenPipe),
    ("stopped", VerdictKind::Stopped),
    ("status_lost", VerdictKind::StatusLost),
    ("exec_failed", VerdictKind::ExecFailed),
    ("exit_nonzero", VerdictKind::ExitNonzero),
    ("killed_by_process", VerdictKind::KilledByProcess),
    ("cpu_limit", VerdictKind::CpuLimit),
    ("file_size_limit", VerdictKind::FileSizeLimit),
    ("success_with_losses", VerdictKind::SuccessWithLosses),
];

impl FromStr for RestartCause {
    type Err = UnknownCause;

    fn from_str(text: &str) -> Result<RestartCause, UnknownCause> {
        let refuse = |reason: String| UnknownCause { text: text.to_owned(), reason };
        match text.split_once(':') {
            None if text == "failure" => Ok(RestartCause::Failure),
            None if text == "signal" => Ok(RestartCause::AnySignal),
            None => NAMED
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, kind)| RestartCause::Verdict(*kind))
                .ok_or_else(|| {
                    let words: Vec<&str> = NAMED.iter().map(|(word, _)| *word).collect();
                    refuse(format!(
                        "say failure, signal, signal:NAME, exit:STATUS, {}",
                        words.join(", ")
                    ))
                }),
            Some(("signal", name)) => {
                name.parse().map(RestartCause::Signal).map_err(|error| refuse(format!("{error}")))
            }
            Some(("exit", status)) => status
                .parse()
                .map(RestartCause::Exit)
                .map_err(|_| refuse("an exit status is 0 to 255".into())),
            Some(_) => Err(refuse("only signal: and exit: take a value".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::verdict::Confidence;

    fn verdict(kind: VerdictKind) -> Verdict {
        Verdict { kind, confidence: Confidence::Certain, evidence: Vec::new() }
    }

    #[test]
    fn causes_distinguish_signals_from_the_statuses_that_look_like_them() {
        let killed =
            AttemptEnd::Ended(Termination::Signaled { signal: Signal::KILL, core_dumped: false });
        let returned = AttemptEnd::Ended(Termination::Exited(137));
        let unknown = verdict(VerdictKind::Unknown);
        let cause = |text: &str| text.parse::<RestartCause>().expect("a cause");
        assert!(cause("signal:KILL").matches(&killed, &unknown));
        assert!(cause("signal").matches(&killed, &unknown));
        assert!(!cause("signal:KILL").matches(&returned, &unknown));
        assert!(cause("exit:137").matches(&returned, &unknown));
        assert!(!cause("exit:137").matches(&killed, &unknown));
        assert!(cause("failure").matches(&returned, &unknown));
        assert!(!cause("failure").matches(&returned, &verdict(VerdictKind::Success)));
        assert!(!cause("failure").matches(&returned, &verdict(VerdictKind::ExecFailed)));
        assert!(cause("timeout").matches(&killed, &verdict(VerdictKind::TimedOut)));
    }

    #[test]
    fn items_that_name_no_cause_are_refused_with_a_reason() {
        for text in ["", "sunspots", "signal:", "signal:FOO", "exit:256", "exit:-1", "oom:1"] {
            let refused = text.parse::<RestartCause>().expect_err(text).to_string();
            assert!(refused.starts_with(&format!("'{text}' is not a cause: ")), "{refused}");
        }
    }

    #[test]
    fn sigchld_is_never_forwarded_by_default() {
        assert!(!Forward::All.includes(Signal::CHLD));
        assert!(Forward::All.includes(Signal::TERM));
        assert!(!Forward::None.includes(Signal::TERM));
        assert!(!Forward::Only(vec![Signal::HUP]).includes(Signal::TERM));
    }
}

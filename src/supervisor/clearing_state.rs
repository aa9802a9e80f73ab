//! An attempt that is over, and how far its remaining processes have been dealt with.

use std::time::Duration;

use crate::model::findings::Death;
use crate::model::outcome::{AttemptEnd, Termination};
use crate::model::policy::Stragglers;
use crate::model::process::Pid;
use crate::model::time::Moment;
use crate::model::verdict::{Evidence, Quality, Verdict, VerdictKind};
use crate::supervisor::restart::Next;

/// An attempt that is over.
#[derive(Clone, Debug)]
pub(super) struct EndedAttempt {
    pub(super) end: AttemptEnd,
    pub(super) verdict: Verdict,
}

/// An ended attempt whose processes may remain.
#[derive(Clone, Debug)]
pub(super) struct Clearing {
    pub(super) last: EndedAttempt,
    pub(super) next: Next,
    pub(super) lasted: Duration,
    /// The grace period that began while the job lived goes on.
    pub(super) kill_at: Option<Moment>,
    pub(super) phase: Phase,
}

/// How far the clearing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// We do not know yet whether anything remains.
    Looking,
    /// It is waited for (`--stragglers wait`); until then, if its end is not reported.
    AwaitingEnd { look_at: Option<Moment> },
    /// SIGTERM was sent.
    Terminating { kill_at: Moment, look_at: Moment, interval: Duration },
    /// SIGKILL was sent.
    Killing { give_up_at: Moment, look_at: Moment, interval: Duration },
}

impl Clearing {
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        match self.phase {
            Phase::Looking => None,
            Phase::AwaitingEnd { look_at } => look_at,
            Phase::Terminating { kill_at, look_at, .. } => Some(kill_at.min(look_at)),
            Phase::Killing { give_up_at, look_at, .. } => Some(give_up_at.min(look_at)),
        }
    }

    /// Takes in the end of a process that outlived the job: one that crashed while it was waited for is a
    /// loss.
    pub(super) fn straggler_ended(&mut self, now: Moment, pid: Pid, end: Termination) {
        let death = Death { pid, name: None, end, source: "waitid(2)", at: now };
        let is_loss = death.is_loss() && self.is_awaiting();
        if is_loss && self.last.verdict.kind.is_success() {
            self.last.verdict.kind = VerdictKind::SuccessWithLosses;
            self.last.verdict.evidence.push(Evidence {
                fact: format!("a process that outlived the job was waited for: {death}"),
                source: death.source,
                quality: Quality::Exact,
            });
        }
    }

    /// Returns whether what remains is waited for.
    pub(super) fn is_awaiting(&self) -> bool {
        matches!(self.phase, Phase::AwaitingEnd { .. })
    }

    /// Says why what remains must be ended, if it must.
    pub(super) fn must_end(&self, policy: Stragglers) -> Option<&'static str> {
        if self.next == Next::Restart {
            Some("before a restart nothing of the old attempt may live")
        } else if self.last.verdict.kind == VerdictKind::TimedOut {
            Some("the time limit holds for all of it")
        } else if policy == Stragglers::Kill {
            Some("--stragglers kill")
        } else {
            None
        }
    }
}

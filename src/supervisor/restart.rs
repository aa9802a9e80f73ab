//! Whether an ended attempt is followed by another, and after what wait.

use std::time::Duration;

use crate::model::outcome::{AttemptEnd, Termination};
use crate::model::policy::Policy;
use crate::model::verdict::{Verdict, VerdictKind};

/// The restarts that are left, and the growth of the back-off.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    limit: u32,
    used: u32,
    /// Restarts in a row without a stable attempt between them.
    streak: u32,
    random: SplitMix,
}

/// What follows an ended attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another attempt was not asked for.
    Finish,
    /// It was, and there is none left.
    Exhausted,
    Restart,
}

impl Budget {
    pub(super) fn new(policy: &Policy, seed: u64) -> Budget {
        Budget { limit: policy.max_restarts, used: 0, streak: 0, random: SplitMix(seed) }
    }

    /// Says what follows, without using up anything.
    pub(super) fn decide(&self, policy: &Policy, end: &AttemptEnd, verdict: &Verdict) -> Next {
        if !wants_restart(policy, end, verdict) {
            Next::Finish
        } else if self.used >= self.limit {
            Next::Exhausted
        } else {
            Next::Restart
        }
    }

    pub(super) fn left(&self) -> u32 {
        self.limit - self.used
    }

    /// Uses up one restart and returns how long to wait before it: a random time between the
    /// minimum and a bound that doubles with each restart in a row, up to the maximum.
    pub(super) fn take(&mut self, policy: &Policy, attempt_lasted: Duration) -> Duration {
        self.used += 1;
        if attempt_lasted >= policy.stable {
            self.streak = 0;
        }
        self.streak = self.streak.saturating_add(1);
        let (min, max) = (policy.backoff.min, policy.backoff.max);
        let factor = 2_u32.saturating_pow(self.streak);
        let bound = min.saturating_mul(factor).min(max);
        min + bound.saturating_sub(min).mul_f64(self.random.unit())
    }
}

/// Says whether the policy asks for another attempt. A job that somebody wanted to stop is never
/// started again.
fn wants_restart(policy: &Policy, end: &AttemptEnd, verdict: &Verdict) -> bool {
    if matches!(verdict.kind, VerdictKind::StopRequested | VerdictKind::KilledByTerminal) {
        return false;
    }
    if policy.never_on.iter().any(|cause| cause.matches(end, verdict)) {
        return false;
    }
    let was_ended_by_us = matches!(verdict.kind, VerdictKind::TimedOut | VerdictKind::Stopped);
    let was_signalled = matches!(end, AttemptEnd::Ended(Termination::Signaled { .. }));
    (policy.restart_signalled && was_signalled && !was_ended_by_us)
        || (policy.restart_stopped && verdict.kind == VerdictKind::Stopped)
        || (policy.restart_lost && *end == AttemptEnd::StatusLost)
        || policy.restart_on.iter().any(|cause| cause.matches(end, verdict))
}

/// A small generator of random numbers: the jitter needs spread, not secrecy.
#[derive(Clone, Debug)]
struct SplitMix(u64);

impl SplitMix {
    /// Returns a number from 0 up to, not including, 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::policy::{Backoff, RestartCause};
    use crate::model::signal::Signal;
    use crate::model::verdict::Confidence;
    use proptest::prelude::*;

    fn verdict(kind: VerdictKind) -> Verdict {
        Verdict { kind, confidence: Confidence::Certain, evidence: Vec::new() }
    }

    fn killed() -> AttemptEnd {
        AttemptEnd::Ended(Termination::Signaled { signal: Signal::KILL, core_dumped: false })
    }

    #[test]
    fn never_on_wins_over_every_other_option() {
        let policy = Policy {
            restart_signalled: true,
            restart_on: vec![RestartCause::Failure],
            never_on: vec![RestartCause::Signal(Signal::KILL)],
            ..Policy::default()
        };
        let budget = Budget::new(&policy, 1);
        let unknown = verdict(VerdictKind::Unknown);
        assert_eq!(budget.decide(&policy, &killed(), &unknown), Next::Finish);
    }

    #[test]
    fn a_job_that_somebody_wanted_to_stop_is_not_restarted() {
        let policy = Policy {
            restart_signalled: true,
            restart_on: vec![RestartCause::Failure],
            ..Policy::default()
        };
        let budget = Budget::new(&policy, 1);
        for kind in [VerdictKind::StopRequested, VerdictKind::KilledByTerminal] {
            assert_eq!(budget.decide(&policy, &killed(), &verdict(kind)), Next::Finish);
        }
    }

    #[test]
    fn the_limit_bounds_all_restarts_together_whatever_their_cause() {
        let policy = Policy { restart_signalled: true, max_restarts: 2, ..Policy::default() };
        let mut budget = Budget::new(&policy, 1);
        let unknown = verdict(VerdictKind::Unknown);
        for _ in 0..2 {
            assert_eq!(budget.decide(&policy, &killed(), &unknown), Next::Restart);
            // Even attempts that count as stable use the budget up.
            budget.take(&policy, policy.stable);
        }
        assert_eq!(budget.decide(&policy, &killed(), &unknown), Next::Exhausted);
    }

    proptest! {
        #[test]
        fn a_wait_lies_between_its_bounds_and_its_upper_bound_doubles(
            seed: u64, min_ms in 0_u64..10_000, more_ms in 0_u64..100_000, rounds in 1_u32..40,
        ) {
            let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(min_ms + more_ms));
            let policy = Policy {
                backoff: Backoff { min, max },
                max_restarts: u32::MAX,
                ..Policy::default()
            };
            let mut budget = Budget::new(&policy, seed);
            for round in 1..=rounds {
                let wait = budget.take(&policy, Duration::ZERO);
                let bound = min.saturating_mul(2_u32.saturating_pow(round)).min(max);
                prop_assert!(min <= wait && wait <= bound.max(min), "{wait:?} of {bound:?}");
            }
            let after_stable = budget.take(&policy, policy.stable);
            prop_assert!(after_stable <= (min * 2).min(max).max(min));
        }
    }
}

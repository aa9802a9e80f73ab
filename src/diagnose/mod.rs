//! From facts to a verdict: pure, one rule per cause, the strongest evidence first.
//!
//! SIGKILL alone is never called out-of-memory, and exit status 137 alone is never called SIGKILL.
//! `certain` means that the evidence excludes every other cause. What happened seconds before the
//! end, and what the job survived, is reported beside the cause and is not the cause.
//! Called by `run` when an attempt has ended.

mod descendants;
mod evidence;
mod exit_words;
mod limits;
mod memory;
mod requests;
mod signals;
#[cfg(test)]
mod tests;
mod traced;

use crate::diagnose::evidence::{Judgement, end_words, exact};
use crate::model::facts::{EndedByUs, Facts, Reach};
use crate::model::outcome::{AttemptEnd, Termination};
use crate::model::signal::Signal;
use crate::model::verdict::{Confidence, Evidence, Quality, Verdict, VerdictKind};

/// Judges one ended attempt.
#[must_use]
pub fn judge(facts: &Facts) -> Verdict {
    let (kind, confidence, evidence) = match &facts.end {
        AttemptEnd::NotStarted(failure) => {
            let fact = exact(failure.to_string(), "execve(2)");
            (VerdictKind::ExecFailed, Confidence::Certain, vec![fact])
        }
        AttemptEnd::StatusLost => {
            let fact = exact(
                "no child to wait for: another process took its status (a tracer or a debugger, or a \
                 library that waits for every child)",
                "waitid(2)",
            );
            (VerdictKind::StatusLost, Confidence::Certain, vec![fact])
        }
        AttemptEnd::Ended(end) => ended(facts, *end),
    };
    Verdict { kind, confidence, evidence }
}

fn ended(facts: &Facts, end: Termination) -> Judgement {
    let ended = exact(end_words(end), "waitid(2)");
    if facts.findings.is_out_of_reach {
        return ended_by_itself(facts, end, ended);
    }
    match facts.ended_by_us {
        Some(EndedByUs::TimedOut(limit)) => {
            let fact = format!("ended by --timeout after {:.3} seconds", limit.as_secs_f64());
            let mut evidence = vec![exact(fact, "--timeout"), ended];
            evidence.extend(descendants::mention(facts));
            return (VerdictKind::TimedOut, Confidence::Certain, evidence);
        }
        Some(EndedByUs::Stopped(signal)) => {
            let why = exact(format!("stayed stopped by {signal} and was ended (-p)"), "waitid(2)");
            return (VerdictKind::Stopped, Confidence::Certain, vec![why, ended]);
        }
        Some(EndedByUs::StopRequestIgnored) | None => {}
    }
    judge_end(facts, end, ended)
}

/// The kernel refused our signals, so the job ended by itself: what we meant to do, and what
/// was to be passed on, explains nothing.
fn ended_by_itself(facts: &Facts, end: Termination, ended: Evidence) -> Judgement {
    let mut own = facts.clone();
    own.stop_request = own.stop_request.filter(|heard| heard.reach != Reach::OnlyUs);
    own.heard.retain(|heard| heard.reach != Reach::OnlyUs);
    own.ended_by_us = None;
    let (kind, confidence, mut evidence) = judge_end(&own, end, ended);
    let why = match facts.ended_by_us {
        Some(EndedByUs::TimedOut(limit)) => {
            format!("could not be ended by --timeout after {:.3} seconds", limit.as_secs_f64())
        }
        Some(EndedByUs::Stopped(_)) => "stayed stopped and could not be ended (-p)".to_owned(),
        Some(EndedByUs::StopRequestIgnored) => "could not be ended by --kill-after".to_owned(),
        None => "could not be asked to stop".to_owned(),
    };
    evidence.push(exact(format!("{why}: the kernel refused the signal"), "pidfd_send_signal(2)"));
    (kind, confidence, evidence)
}

fn judge_end(facts: &Facts, end: Termination, ended: Evidence) -> Judgement {
    let by_request = match end {
        Termination::Exited(0) => None,
        Termination::Exited(status) => requests::exited(facts, status, &ended),
        Termination::Signaled { signal, .. } => {
            traced::judge(facts, signal, &ended).or_else(|| requests::died(facts, signal, &ended))
        }
    };
    if let Some((kind, confidence, mut evidence)) = by_request {
        evidence.extend(descendants::mention(facts));
        return (kind, confidence, evidence);
    }
    let (kind, confidence, mut evidence) = match end {
        Termination::Exited(0) => success(facts, ended),
        Termination::Exited(status) => exited(facts, status, ended),
        Termination::Signaled { signal, .. } => signals::judge(facts, signal, ended),
    };
    evidence.extend(requests::mention(facts));
    (kind, confidence, evidence)
}

fn success(facts: &Facts, ended: Evidence) -> Judgement {
    let mut evidence = vec![ended];
    let (losses, count) = descendants::losses(facts);
    if let Some(loss) = losses.first() {
        evidence.push(descendants::words(facts, loss));
        evidence.extend(descendants::kernel_words(facts, loss));
        if count > 1 {
            let is_all =
                facts.findings.deaths.is_complete && descendants::unclear_losses(facts).is_none();
            let (least, all) = match is_all {
                true => ("", " in all"),
                false => ("at least ", ""),
            };
            let fact = format!("{least}{count} such deaths{all}");
            evidence.push(exact(fact, loss.source));
        }
        if let Some((_, proof)) = memory::of_descendant(facts, loss) {
            evidence.extend(proof);
        }
        return (VerdictKind::SuccessWithLosses, Confidence::Certain, evidence);
    }
    if let Some(counter) = memory::unexplained_rise(facts) {
        // Something in our cgroup was killed, and we cannot show that it was ours.
        evidence.push(memory::counter_words(counter));
        return (VerdictKind::SuccessWithLosses, Confidence::Possible, evidence);
    }
    if let Some(unclear) = descendants::unclear_losses(facts) {
        evidence.push(unclear);
        return (VerdictKind::Success, Confidence::Likely, evidence);
    }
    (VerdictKind::Success, Confidence::Certain, evidence)
}

fn exited(facts: &Facts, status: u8, ended: Evidence) -> Judgement {
    let mut evidence = vec![ended];
    if let Some((kind, confidence, why)) = descendants::explain(facts, status) {
        evidence.extend(why);
        return (kind, confidence, evidence);
    }
    if let Some(counter) = memory::unexplained_rise(facts) {
        // It was not reported which process it was, and others may be in our cgroup.
        evidence.push(memory::counter_words(counter));
        if i32::from(status) == 128 + libc::SIGKILL {
            evidence.extend(memory::size_words(&facts.findings.memory));
            return (VerdictKind::OomKilled, Confidence::Likely, evidence);
        }
    }
    evidence.extend(exit_words::hint(facts, status));
    evidence.extend(facts.findings.full.iter().map(|place| Evidence {
        fact: format!("no room left in {}", place.display()),
        source: "statvfs(3)",
        quality: Quality::Sampled,
    }));
    let lost = descendants::mention(facts);
    // Where not every death is known, one of them may be what 128+n stands for.
    let named = Signal::new(i32::from(status) - 128);
    let unknown = named.filter(|signal| !facts.findings.deaths.knows_all_of(*signal));
    let confidence = match !lost.is_empty() || unknown.is_some() {
        true => Confidence::Likely,
        false => Confidence::Certain,
    };
    evidence.extend(lost);
    evidence.extend(unknown.and_then(|signal| descendants::unclear_of(facts, signal)));
    (VerdictKind::ExitNonzero, confidence, evidence)
}

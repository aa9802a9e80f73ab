//! From facts to a verdict: pure, one rule per cause, the strongest evidence first.
//!
//! SIGKILL alone is never called out-of-memory, and exit status 137 alone is never called SIGKILL.
//! Called by `run` when an attempt has ended.

mod exit_words;
mod memory;
mod signals;
#[cfg(test)]
mod tests;

use crate::model::facts::{EndedByUs, Facts, Heard, Reach};
use crate::model::outcome::{AttemptEnd, Termination};
use crate::model::process::Sender;
use crate::model::scene::Death;
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
            let fact = exact("no child to wait for", "waitid(2)");
            (VerdictKind::StatusLost, Confidence::Certain, vec![fact])
        }
        AttemptEnd::Ended(end) => ended(facts, *end),
    };
    Verdict { kind, confidence, evidence }
}

/// What a rule says.
type Judgement = (VerdictKind, Confidence, Vec<Evidence>);

fn ended(facts: &Facts, end: Termination) -> Judgement {
    let ended = exact(end_words(end), "waitid(2)");
    match facts.ended_by_us {
        Some(EndedByUs::TimedOut(limit)) => {
            let fact = format!("ended by --timeout after {:.3} seconds", limit.as_secs_f64());
            let why = exact(fact, "--timeout");
            return (VerdictKind::TimedOut, Confidence::Certain, vec![why, ended]);
        }
        Some(EndedByUs::Stopped(signal)) => {
            let why = exact(format!("stayed stopped by {signal} and was ended (-p)"), "waitid(2)");
            return (VerdictKind::Stopped, Confidence::Certain, vec![why, ended]);
        }
        Some(EndedByUs::StopNotHeeded) | None => {}
    }
    match end {
        Termination::Exited(0) => success(facts, ended),
        Termination::Exited(status) => exited(facts, status, ended),
        Termination::Signaled { signal, .. } => {
            requested(facts, signal, &ended).unwrap_or_else(|| signals::judge(facts, signal, ended))
        }
    }
}

fn success(facts: &Facts, ended: Evidence) -> Judgement {
    let deaths = &facts.scene.deaths;
    let mut evidence = vec![ended];
    if let Some(loss) = deaths.first_loss() {
        evidence.push(death_words(loss));
        if deaths.losses > 1 {
            let (least, all) =
                if deaths.may_be_more() { ("at least ", "") } else { ("", " in all") };
            let fact = format!("{least}{} such deaths{all}", deaths.losses);
            evidence.push(exact(fact, loss.source));
        }
        evidence.extend(memory::certain(&facts.scene.memory, loss.pid));
        return (VerdictKind::SuccessWithLosses, Confidence::Certain, evidence);
    }
    if let Some(counter) = facts.scene.memory.own.as_ref().filter(|counter| counter.rise() > 0) {
        // Something in our cgroup was killed, and we cannot show that it was ours.
        evidence.push(memory::counter_words(counter));
        return (VerdictKind::SuccessWithLosses, Confidence::Possible, evidence);
    }
    (VerdictKind::Success, Confidence::Certain, evidence)
}

fn exited(facts: &Facts, status: u8, ended: Evidence) -> Judgement {
    let mut evidence = vec![ended];
    if let Some(request) = &facts.stop_request {
        // Shells and well-kept programs turn the signal into 128+n, or end in good order. A hang-up
        // may have been ignored (nohup), or meant as "read your files again".
        let is_shell_form = i32::from(status) == 128 + request.info.signal.number();
        if is_shell_form || request.info.signal != Signal::HUP {
            let confidence = if is_shell_form { Confidence::Certain } else { Confidence::Likely };
            evidence.push(request_words(request));
            return (requested_kind(request), confidence, evidence);
        }
    }
    if let Some((kind, confidence)) = after_a_death(facts, status, &mut evidence) {
        return (kind, confidence, evidence);
    }
    if let Some(counter) = facts.scene.memory.own.as_ref().filter(|counter| counter.rise() > 0) {
        // Nobody told us who it was, and others may be in our cgroup.
        evidence.push(memory::counter_words(counter));
        if i32::from(status) == 128 + Signal::KILL.number() {
            evidence.extend(memory::size_words(&facts.scene.memory));
            return (VerdictKind::OomKilled, Confidence::Likely, evidence);
        }
    }
    evidence.extend(exit_words::hint(status));
    evidence.extend(facts.scene.full.iter().map(|place| Evidence {
        fact: format!("no room left in {}", place.display()),
        source: "statvfs(3)",
        quality: Quality::Sampled,
    }));
    (VerdictKind::ExitNonzero, Confidence::Certain, evidence)
}

/// A shell says 128+n when a command of its own died of signal n; other programs give up in their
/// own way when a child of theirs was lost.
fn after_a_death(
    facts: &Facts,
    status: u8,
    evidence: &mut Vec<Evidence>,
) -> Option<(VerdictKind, Confidence)> {
    let deaths = &facts.scene.deaths;
    let named = Signal::new(i32::from(status) - 128).and_then(|signal| deaths.latest_by(signal));
    let (death, confidence) = match named {
        Some(death) => (death, Confidence::Certain),
        None => (deaths.first_loss()?, Confidence::Likely),
    };
    evidence.push(death_words(death));
    let is_kill = death.signal() == Some(Signal::KILL);
    if let Some(proof) = memory::certain(&facts.scene.memory, death.pid).filter(|_| is_kill) {
        evidence.push(proof);
        evidence.extend(memory::size_words(&facts.scene.memory));
        return Some((VerdictKind::OomKilled, confidence));
    }
    Some((VerdictKind::DescendantKilled, confidence))
}

/// The job died of a signal that it got from us or together with us, or of our SIGKILL when it did not
/// heed one.
fn requested(facts: &Facts, signal: Signal, ended: &Evidence) -> Option<Judgement> {
    if let Some(request) = &facts.stop_request
        && facts.ended_by_us == Some(EndedByUs::StopNotHeeded)
        && signal == Signal::KILL
    {
        let late = exact("not heeded within --kill-after", "--kill-after");
        let evidence = vec![ended.clone(), request_words(request), late];
        return Some((requested_kind(request), Confidence::Certain, evidence));
    }
    // It may have been asked more than once, each time by another signal.
    let mut all = facts.stop_request.iter().chain(&facts.heard);
    let heard = all.find(|heard| heard.info.signal == signal)?;
    let evidence = vec![ended.clone(), request_words(heard)];
    if heard.info.sender == Sender::Kernel && !signal.is_of_terminal() {
        // A timer or a limit of the process that executed us: which one, the kernel does not say.
        return Some((VerdictKind::Unknown, Confidence::Likely, evidence));
    }
    Some((requested_kind(heard), Confidence::Certain, evidence))
}

/// Who sent it: the terminal, a program that signals all of the job itself, or a process by our hands. Only
/// some signals ask to stop.
fn requested_kind(heard: &Heard) -> VerdictKind {
    match heard.reach {
        Reach::WholeGroup => VerdictKind::KilledByTerminal,
        Reach::OnlyUs | Reach::Unclear(_) | Reach::WholeJob(_) | Reach::OurFault
            if heard.info.signal.asks_to_stop() =>
        {
            VerdictKind::StopRequested
        }
        _ => VerdictKind::KilledByProcess,
    }
}

fn request_words(request: &Heard) -> Evidence {
    let way = match request.reach {
        Reach::WholeGroup => "to the whole process group of the terminal",
        Reach::WholeJob(_) => "to every process of the job",
        Reach::FromJob { is_in_group: true } => "sent by the job itself to its process group",
        Reach::FromJob { is_in_group: false } => "sent by the job itself and passed on",
        Reach::OnlyUs | Reach::Unclear(_) | Reach::OurFault => {
            "received by childminder and passed on"
        }
    };
    let asked = if request.info.sender.is_slurm() { "asked by Slurm: " } else { "" };
    exact(format!("{asked}{}, {way}", request.info), "signalfd(2)")
}

fn end_words(end: Termination) -> String {
    match end {
        Termination::Exited(status) => format!("exit status {status}"),
        Termination::Signaled { signal, core_dumped: true } => format!("{signal}, core dumped"),
        Termination::Signaled { signal, core_dumped: false } => signal.to_string(),
    }
}

fn death_words(death: &Death) -> Evidence {
    exact(format!("its descendant {death}"), death.source)
}

fn exact(fact: impl Into<String>, source: &'static str) -> Evidence {
    Evidence { fact: fact.into(), source, quality: Quality::Exact }
}

fn inferred(fact: impl Into<String>, source: &'static str) -> Evidence {
    Evidence { fact: fact.into(), source, quality: Quality::Inferred }
}

//! From facts to a verdict: pure, one rule per cause, the strongest evidence first.
//!
//! SIGKILL alone is never called out-of-memory, and exit status 137 alone is never called SIGKILL.
//! Called by `run` when an attempt has ended.

mod exit_words;

use crate::model::facts::{EndedByUs, Facts, Heard, Reach};
use crate::model::outcome::{AttemptEnd, Termination};
use crate::model::signal::Signal;
use crate::model::verdict::{Confidence, Evidence, Quality, Verdict, VerdictKind};

/// Judges one ended attempt.
#[must_use]
pub fn judge(facts: &Facts) -> Verdict {
    let (kind, confidence, mut evidence) = match &facts.end {
        AttemptEnd::NotStarted(failure) => {
            let fact = exact(failure.to_string(), "execve(2)");
            (VerdictKind::ExecFailed, Confidence::Certain, vec![fact])
        }
        AttemptEnd::StatusLost => {
            let fact = exact("no child to wait for".into(), "waitid(2)");
            (VerdictKind::StatusLost, Confidence::Certain, vec![fact])
        }
        AttemptEnd::Ended(end) => ended(facts, *end),
    };
    if let Some(loss) = &facts.loss
        && kind != VerdictKind::SuccessWithLosses
    {
        evidence.push(exact(format!("before that, orphan {} {}", loss.pid, loss.end), "waitid(2)"));
    }
    Verdict { kind, confidence, evidence }
}

type Judgement = (VerdictKind, Confidence, Vec<Evidence>);

fn ended(facts: &Facts, end: Termination) -> Judgement {
    let ended = exact(end_words(end), "waitid(2)");
    match facts.ended_by_us {
        Some(EndedByUs::TimedOut(limit)) => {
            let why = exact(
                format!("ended by --timeout after {:.3} seconds", limit.as_secs_f64()),
                "--timeout",
            );
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
        Termination::Signaled { signal, .. } => signalled(facts, signal, ended),
    }
}

fn success(facts: &Facts, ended: Evidence) -> Judgement {
    match &facts.loss {
        None => (VerdictKind::Success, Confidence::Certain, vec![ended]),
        Some(loss) => {
            let fact = format!(
                "{} orphan(s) died of a signal, the first: {} {}",
                facts.losses, loss.pid, loss.end
            );
            let lost = exact(fact, "waitid(2)");
            (VerdictKind::SuccessWithLosses, Confidence::Certain, vec![ended, lost])
        }
    }
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
    evidence.extend(exit_words::hint(status));
    (VerdictKind::ExitNonzero, Confidence::Certain, evidence)
}

fn signalled(facts: &Facts, signal: Signal, ended: Evidence) -> Judgement {
    if let Some(request) = &facts.stop_request {
        let is_ours = facts.ended_by_us == Some(EndedByUs::StopNotHeeded) && signal == Signal::KILL;
        if is_ours || request.info.signal == signal {
            let mut evidence = vec![ended, request_words(request)];
            if is_ours {
                evidence.push(exact("not heeded within --kill-after".into(), "--kill-after"));
            }
            return (requested_kind(request), Confidence::Certain, evidence);
        }
    }
    if let Some(heard) = facts.heard.iter().find(|heard| heard.info.signal == signal) {
        let kind = match heard.reach {
            Reach::WholeGroup => VerdictKind::KilledByTerminal,
            _ => VerdictKind::KilledByProcess,
        };
        return (kind, Confidence::Certain, vec![ended, request_words(heard)]);
    }
    let (kind, confidence, why) = match signal {
        Signal::XCPU => (
            VerdictKind::CpuLimit,
            Confidence::Likely,
            "the kernel sends SIGXCPU at the soft limit RLIMIT_CPU",
        ),
        Signal::XFSZ => (
            VerdictKind::FileSizeLimit,
            Confidence::Likely,
            "the kernel sends SIGXFSZ at a write beyond RLIMIT_FSIZE",
        ),
        signal if signal.is_fault() => (
            VerdictKind::Crashed,
            Confidence::Likely,
            "the kernel sends it for a fault of the program itself; a process could, too",
        ),
        Signal::KILL => (
            VerdictKind::Unknown,
            Confidence::Possible,
            "its sender cannot be known, and the kernel also sends it when memory runs out",
        ),
        Signal::PIPE => (
            VerdictKind::Unknown,
            Confidence::Likely,
            "the kernel sends it for a write to a pipe or socket that nobody reads",
        ),
        _ => (
            VerdictKind::KilledByProcess,
            Confidence::Likely,
            "not by way of childminder, and the kernel seldom sends it by itself",
        ),
    };
    (kind, confidence, vec![ended, inferred(why)])
}

/// Who asked: the terminal, a program that signals all of the job itself, or a process by our hands.
fn requested_kind(request: &Heard) -> VerdictKind {
    match request.reach {
        Reach::WholeGroup => VerdictKind::KilledByTerminal,
        Reach::WholeJob(_) => VerdictKind::KilledByProcess,
        Reach::OnlyUs | Reach::OurFault => VerdictKind::StopRequested,
    }
}

fn request_words(request: &Heard) -> Evidence {
    let way = match request.reach {
        Reach::WholeGroup => "to the whole process group of the terminal",
        Reach::WholeJob(_) => "to every process of the job",
        Reach::OnlyUs | Reach::OurFault => "received by childminder and passed on",
    };
    exact(format!("{}, {way}", request.info), "signalfd(2)")
}

fn end_words(end: Termination) -> String {
    match end {
        Termination::Exited(status) => format!("exit status {status}"),
        Termination::Signaled { signal, core_dumped: true } => format!("{signal}, core dumped"),
        Termination::Signaled { signal, core_dumped: false } => signal.to_string(),
    }
}

fn exact(fact: String, source: &'static str) -> Evidence {
    Evidence { fact, source, quality: Quality::Exact }
}

fn inferred(fact: &str) -> Evidence {
    Evidence { fact: fact.to_owned(), source: "signal(7)", quality: Quality::Inferred }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::model::facts::Loss;
    use crate::model::outcome::SpawnFailure;
    use crate::model::process::{Pid, Sender, SenderProcess};
    use crate::model::signal::{Origin, SignalInfo};

    fn facts(end: Termination) -> Facts {
        Facts {
            end: AttemptEnd::Ended(end),
            ended_by_us: None,
            stop_request: None,
            heard: Vec::new(),
            loss: None,
            losses: 0,
        }
    }

    fn killed(signal: Signal) -> Termination {
        Termination::Signaled { signal, core_dumped: false }
    }

    fn request(signal: Signal, reach: Reach) -> Option<Heard> {
        let sender =
            SenderProcess { pid: Pid(7), uid: 0, user: Some("root".into()), command: None };
        let (origin, sender) = match reach {
            Reach::WholeGroup => (Origin::Kernel, Sender::Kernel),
            _ => (Origin::Kill, Sender::Process(sender)),
        };
        Some(Heard { info: SignalInfo { signal, origin, sender, value: None }, reach })
    }

    fn judged(facts: &Facts) -> (VerdictKind, Confidence) {
        let verdict = judge(facts);
        assert!(!verdict.evidence.is_empty(), "a verdict without evidence: {verdict}");
        (verdict.kind, verdict.confidence)
    }

    #[test]
    fn exit_status_137_is_the_programs_own_word_and_not_a_kill() {
        let verdict = judge(&facts(Termination::Exited(137)));
        assert_eq!(verdict.kind, VerdictKind::ExitNonzero);
        assert!(verdict.to_string().contains("no signal ended the job itself"), "{verdict}");
    }

    #[test]
    fn sigkill_alone_is_not_called_out_of_memory() {
        let verdict = judged(&facts(killed(Signal::KILL)));
        assert_eq!(verdict, (VerdictKind::Unknown, Confidence::Possible));
    }

    #[test]
    fn each_signal_leads_to_the_cause_it_speaks_for() {
        use Confidence::Likely;
        for (signal, kind) in [
            (Signal::SEGV, VerdictKind::Crashed),
            (Signal::ABRT, VerdictKind::Crashed),
            (Signal::XCPU, VerdictKind::CpuLimit),
            (Signal::XFSZ, VerdictKind::FileSizeLimit),
            (Signal::TERM, VerdictKind::KilledByProcess),
        ] {
            assert_eq!(judged(&facts(killed(signal))), (kind, Likely), "{signal}");
        }
    }

    #[test]
    fn a_signal_that_we_passed_on_was_a_request_to_stop() {
        let stop_request = request(Signal::TERM, Reach::OnlyUs);
        let died = Facts { stop_request: stop_request.clone(), ..facts(killed(Signal::TERM)) };
        assert_eq!(judged(&died), (VerdictKind::StopRequested, Confidence::Certain));
        let shell = Facts { stop_request: stop_request.clone(), ..facts(Termination::Exited(143)) };
        assert_eq!(judged(&shell), (VerdictKind::StopRequested, Confidence::Certain));
        let other = Facts { stop_request, ..facts(killed(Signal::SEGV)) };
        assert_eq!(judged(&other), (VerdictKind::Crashed, Confidence::Likely));
    }

    #[test]
    fn the_terminal_and_the_batch_system_are_told_apart_from_us() {
        let ctrl_c = Facts {
            stop_request: request(Signal::INT, Reach::WholeGroup),
            ..facts(killed(Signal::INT))
        };
        assert_eq!(judged(&ctrl_c), (VerdictKind::KilledByTerminal, Confidence::Certain));
        let cancelled = Facts {
            stop_request: request(Signal::TERM, Reach::WholeJob("slurmstepd")),
            ..facts(killed(Signal::TERM))
        };
        assert_eq!(judged(&cancelled), (VerdictKind::KilledByProcess, Confidence::Certain));
    }

    #[test]
    fn what_we_ended_ourselves_says_so_however_it_died() {
        for end in [Termination::Exited(0), killed(Signal::TERM), killed(Signal::KILL)] {
            let limit = EndedByUs::TimedOut(Duration::from_secs(1));
            let timed_out = Facts { ended_by_us: Some(limit), ..facts(end) };
            assert_eq!(judged(&timed_out), (VerdictKind::TimedOut, Confidence::Certain));
            let stopped = EndedByUs::Stopped(Signal::STOP);
            let stopped = Facts { ended_by_us: Some(stopped), ..facts(end) };
            assert_eq!(judged(&stopped), (VerdictKind::Stopped, Confidence::Certain));
        }
    }

    #[test]
    fn a_killed_orphan_spoils_a_success() {
        let loss = Some(Loss { pid: Pid(5), end: killed(Signal::SEGV) });
        let lossy = Facts { loss, losses: 2, ..facts(Termination::Exited(0)) };
        assert_eq!(judged(&lossy), (VerdictKind::SuccessWithLosses, Confidence::Certain));
    }

    #[test]
    fn a_status_that_is_lost_is_never_a_success() {
        let lost = Facts { end: AttemptEnd::StatusLost, ..facts(Termination::Exited(0)) };
        assert_eq!(judged(&lost), (VerdictKind::StatusLost, Confidence::Certain));
    }

    #[test]
    fn a_job_that_never_ran_is_told_apart_from_one_that_returned_127() {
        let failure = SpawnFailure { step: "execute x".into(), errno: libc::ENOENT, is_exec: true };
        let never = Facts { end: AttemptEnd::NotStarted(failure), ..facts(Termination::Exited(0)) };
        assert_eq!(judged(&never), (VerdictKind::ExecFailed, Confidence::Certain));
        let returned = judged(&facts(Termination::Exited(127)));
        assert_eq!(returned, (VerdictKind::ExitNonzero, Confidence::Certain));
    }
}

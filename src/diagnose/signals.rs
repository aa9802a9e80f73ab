//! What a death by signal means when nobody asked the job to stop.

use crate::diagnose::evidence::{Judgement, exact, inferred};
use crate::diagnose::{descendants, exit_words, limits, memory, traced};
use crate::model::facts::Facts;
use crate::model::findings::KernelLine;
use crate::model::process::Pid;
use crate::model::signal::Signal;
use crate::model::text::byte_size;
use crate::model::verdict::{Confidence, Evidence, VerdictKind};

/// Judges a death by that signal; `ended` is the first piece of evidence.
pub(super) fn judge(facts: &Facts, signal: Signal, ended: Evidence) -> Judgement {
    let findings = &facts.findings;
    let (kind, confidence, more) = match signal {
        Signal::KILL => kill(facts),
        Signal::XCPU => limits::cpu_signal(findings),
        Signal::XFSZ => limits::file_size(findings),
        signal if signal.is_fault() => fault(facts, signal),
        Signal::PIPE => {
            let why =
                "broken pipe: it wrote to a pipe or socket whose reader had ended or closed it";
            (VerdictKind::BrokenPipe, Confidence::Likely, vec![inferred(why, "signal(7)")])
        }
        Signal::ALRM | Signal::VTALRM | Signal::PROF => {
            let why = "a timer that the program itself had set ran out (alarm(2), setitimer(2)) and it \
                 does not catch the signal; a process could send it, too";
            (VerdictKind::Unknown, Confidence::Likely, vec![inferred(why, "signal(7)")])
        }
        Signal::IO => {
            let why = "a descriptor for which the program had asked for it became ready (fcntl(2)) \
                 and it does not catch the signal; a process could send it, too";
            (VerdictKind::Unknown, Confidence::Likely, vec![inferred(why, "signal(7)")])
        }
        _ => {
            let why = "not sent through childminder, and the kernel rarely sends it by itself: its sender, \
                 another process or the job itself, is not known";
            (VerdictKind::KilledByProcess, Confidence::Likely, vec![inferred(why, "signal(7)")])
        }
    };
    let mut evidence = vec![ended];
    evidence.extend(more);
    (kind, confidence, evidence)
}

/// SIGKILL: from the OOM killer or at the hard limit of CPU time, or else from a process. Its sender
/// cannot be known.
fn kill(facts: &Facts) -> Judgement {
    let findings = &facts.findings;
    if let Some(line) = kernel_line(facts, Signal::KILL) {
        // What the kernel logs of a process that ends by SIGKILL is about seccomp.
        let line = descendants::line_words(line);
        return (VerdictKind::Crashed, Confidence::Certain, vec![line]);
    }
    if let Some((confidence, evidence)) = memory::judge(facts) {
        return (VerdictKind::OomKilled, confidence, evidence);
    }
    if let Some(reached) = limits::cpu_kill(findings) {
        return (VerdictKind::CpuLimit, Confidence::Likely, vec![reached]);
    }
    let proof = memory::ruled_out(facts);
    if findings.dispositions.is_some_and(|known| known.is_seccomp_dead) {
        let why = "the kernel marked it as ended by a system call that seccomp(2) forbids";
        let evidence = vec![exact(why, "/proc/PID/status")];
        return (VerdictKind::Crashed, Confidence::Likely, evidence);
    }
    if findings.dispositions.is_some_and(|known| known.is_seccomp_strict) {
        let why = "in the strict mode of seccomp(2) the kernel sends it for a forbidden system call; \
             a process could, too";
        let confidence = proof.as_ref().map_or(Confidence::Possible, |_| Confidence::Likely);
        let evidence = proof.into_iter().chain([inferred(why, "seccomp(2)")]).collect();
        return (VerdictKind::Crashed, confidence, evidence);
    }
    let Some(proof) = proof else {
        if let Some(small) = memory::small_words(&findings.memory) {
            let who = inferred(
                "so a process of this user or of root probably sent it; which one is not known",
                "signal(7)",
            );
            return (VerdictKind::KilledByProcess, Confidence::Possible, vec![small, who]);
        }
        let why = "its sender cannot be known, and the kernel also sends it when memory runs out";
        return (VerdictKind::Unknown, Confidence::Possible, vec![inferred(why, "signal(7)")]);
    };
    // What is left is a process of the same user or of root.
    let who = "so a process of this user or of root sent it; which one the kernel does not report";
    let mut evidence = vec![proof];
    evidence.extend(memory::size_words(&findings.memory));
    evidence.push(inferred(who, "signal(7)"));
    (VerdictKind::KilledByProcess, Confidence::Likely, evidence)
}

/// What the kernel logged about the job, or a thread of it, that fits the signal.
fn kernel_line(facts: &Facts, signal: Signal) -> Option<&KernelLine> {
    let lines = &facts.findings.kernel_lines;
    let of = |threads: &[Pid]| lines.iter().rfind(|line| line.explains(threads, signal));
    of(facts.pid.as_slice()).or_else(|| of(&facts.findings.threads))
}

fn fault(facts: &Facts, signal: Signal) -> Judgement {
    let findings = &facts.findings;
    let known = kernel_line(facts, signal).map(descendants::line_words);
    let (why, confidence) = match (traced::fault(facts, signal), known) {
        (Some(seen), _) => (seen, Confidence::Certain),
        (None, Some(line)) => (line, Confidence::Certain),
        (None, None) => (exit_words::fault(signal, findings), Confidence::Likely),
    };
    let mut evidence = vec![why];
    evidence.extend(exit_words::core(findings));
    if let Some(limit) = findings.limits.and_then(|limits| limits.address_space_bytes) {
        let limit = byte_size(limit);
        let fact =
            format!("RLIMIT_AS was {limit} (ulimit -v): a program without memory may end so");
        evidence.push(inferred(fact, "/proc/PID/limits"));
    }
    (VerdictKind::Crashed, confidence, evidence)
}

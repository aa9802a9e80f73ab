//! What a death by signal means when nobody asked the job to stop.

use crate::diagnose::{Judgement, exact, exit_words, inferred, memory};
use crate::model::facts::Facts;
use crate::model::scene::{Limits, Scene};
use crate::model::signal::Signal;
use crate::model::verdict::{Confidence, Evidence, Quality, VerdictKind};

/// Judges a death by that signal; `ended` is the first piece of evidence.
pub(super) fn judge(facts: &Facts, signal: Signal, ended: Evidence) -> Judgement {
    let scene = &facts.scene;
    let (kind, confidence, more) = match signal {
        Signal::KILL => kill(facts),
        Signal::XCPU => limit(
            VerdictKind::CpuLimit,
            cpu_soft_words(scene),
            "the kernel sends SIGXCPU at the soft limit RLIMIT_CPU",
        ),
        Signal::XFSZ => limit(
            VerdictKind::FileSizeLimit,
            file_size_words(scene),
            "the kernel sends SIGXFSZ at a write beyond RLIMIT_FSIZE",
        ),
        signal if signal.is_fault() => fault(scene, signal),
        Signal::PIPE => {
            let why = "the kernel sends it for a write to a pipe or socket that nobody reads";
            (VerdictKind::Unknown, Confidence::Likely, vec![inferred(why, "signal(7)")])
        }
        _ => {
            let why = "not by way of childminder, and the kernel seldom sends it by itself";
            (VerdictKind::KilledByProcess, Confidence::Likely, vec![inferred(why, "signal(7)")])
        }
    };
    let mut evidence = vec![ended];
    evidence.extend(more);
    (kind, confidence, evidence)
}

/// SIGKILL: from the kernel for want of memory or at the hard limit of CPU time, or else from a
/// process. Its sender cannot be known.
fn kill(facts: &Facts) -> Judgement {
    let scene = &facts.scene;
    if let Some((confidence, evidence)) = memory::judge(&scene.memory, facts.pid) {
        return (VerdictKind::OomKilled, confidence, evidence);
    }
    if let Some(reached) = cpu_hard_words(scene) {
        return (VerdictKind::CpuLimit, Confidence::Likely, vec![reached]);
    }
    match memory::ruled_out(&scene.memory) {
        // What is left is a process of the same user or of root.
        Some(proof) => {
            let who =
                "so a process of this user or of root sent it; which one the kernel does not tell";
            (
                VerdictKind::KilledByProcess,
                Confidence::Likely,
                vec![proof, inferred(who, "signal(7)")],
            )
        }
        None => {
            let why =
                "its sender cannot be known, and the kernel also sends it when memory runs out";
            (VerdictKind::Unknown, Confidence::Possible, vec![inferred(why, "signal(7)")])
        }
    }
}

/// The limit's own signal: sure if the limit was there, likely if it is not known.
fn limit(kind: VerdictKind, found: Option<Evidence>, otherwise: &'static str) -> Judgement {
    match found {
        Some(found) => (kind, Confidence::Certain, vec![found]),
        None => (kind, Confidence::Likely, vec![inferred(otherwise, "signal(7)")]),
    }
}

fn fault(scene: &Scene, signal: Signal) -> Judgement {
    let mut evidence = Vec::new();
    let confidence = match &scene.fault_line {
        Some(line) => {
            evidence.push(exact(format!("the kernel's log: {line}"), "/dev/kmsg"));
            Confidence::Certain
        }
        None => {
            evidence.push(exit_words::fault(signal, scene));
            Confidence::Likely
        }
    };
    if let Some(core) = &scene.core {
        evidence.push(Evidence {
            fact: core.to_string(),
            source: "core(5)",
            quality: Quality::Exact,
        });
    }
    (VerdictKind::Crashed, confidence, evidence)
}

fn limits(scene: &Scene) -> Limits {
    scene.limits.unwrap_or_default()
}

/// The kernel moves the soft limit on by a second with each SIGXCPU, so its value now says little.
fn cpu_soft_words(scene: &Scene) -> Option<Evidence> {
    limits(scene).cpu_soft_seconds?;
    let fact = format!("RLIMIT_CPU (soft) was set{}", used_words(scene));
    Some(exact(fact, "/proc/PID/limits"))
}

fn file_size_words(scene: &Scene) -> Option<Evidence> {
    let limit = limits(scene).file_size_bytes?;
    Some(exact(format!("RLIMIT_FSIZE was {limit} bytes"), "/proc/PID/limits"))
}

/// The kernel holds the limit against time that it counts by ticks, and tells us time that it
/// measured: the two differ by some per cent.
const NEAR_LIMIT: f64 = 0.9;

fn cpu_hard_words(scene: &Scene) -> Option<Evidence> {
    let limit = limits(scene).cpu_hard_seconds?;
    let used = scene.cpu?;
    (used.as_secs_f64() >= limit as f64 * NEAR_LIMIT).then(|| {
        let fact = format!("RLIMIT_CPU (hard) of {limit} s reached{}", used_words(scene));
        inferred(fact, "/proc/PID/limits")
    })
}

fn used_words(scene: &Scene) -> String {
    scene.cpu.map(|used| format!(", {:.2} s used", used.as_secs_f64())).unwrap_or_default()
}

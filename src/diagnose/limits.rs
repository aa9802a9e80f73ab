//! Resource limits (getrlimit(2)) held against what the job used: the signal of a limit that was not
//! reached came from a process.

use std::time::Duration;

use crate::diagnose::evidence::{exact, inferred};
use crate::model::findings::{Findings, Limits};
use crate::model::signal::Signal;
use crate::model::verdict::{Confidence, Evidence, VerdictKind};

/// The kernel holds the limit against time that it counts by ticks, and reports time that it
/// measured: on a busy machine the second is less by as much as a fifth.
const REACHED: f64 = 0.8;

/// With each SIGXCPU the kernel moves RLIMIT_RTTIME on by this, in microseconds.
const MOVED_ON_US: u64 = 1_000_000;

/// A process that had this much more CPU time than the limit did not die at the limit.
const AT_ONCE: f64 = 0.3;

/// A verdict on a signal of a limit, without the end itself.
type LimitVerdict = (VerdictKind, Confidence, Vec<Evidence>);

/// SIGXCPU: at the soft limit of CPU time, or of time without a blocking call (RLIMIT_RTTIME).
pub(super) fn cpu_signal(findings: &Findings) -> LimitVerdict {
    let Some(limits) = findings.limits else {
        let why =
            "the kernel sends SIGXCPU at the soft limit RLIMIT_CPU; the limits were not readable";
        return (VerdictKind::CpuLimit, Confidence::Likely, vec![inferred(why, "signal(7)")]);
    };
    if let Some(now) = limits.real_time_soft_us.filter(|_| findings.is_real_time == Some(true)) {
        let limit = now.checked_sub(MOVED_ON_US).filter(|limit| *limit > 0).unwrap_or(now);
        let fact = real_time_words(limit, "soft", findings.cpu);
        return (VerdictKind::CpuLimit, Confidence::Likely, vec![exact(fact, "/proc/PID/limits")]);
    }
    let Some(now) = limits.cpu_soft_seconds else {
        return by_a_process(Signal::XCPU, "RLIMIT_CPU is unlimited");
    };
    // With each SIGXCPU the kernel raises the soft limit by a second.
    let limit = now.saturating_sub(1).max(1) as f64;
    let used = findings.cpu.map(|used| used.as_secs_f64());
    let words = |limit| format!("RLIMIT_CPU (soft) was {limit} s{}", used_words(findings.cpu));
    let fact = format!("{}{}", words(limit), less_words(limit, used));
    match used {
        Some(used) if used < limit * REACHED => by_a_process(Signal::XCPU, words(now as f64)),
        Some(used) if used <= limit + AT_ONCE => {
            (VerdictKind::CpuLimit, Confidence::Certain, vec![exact(fact, "/proc/PID/limits")])
        }
        _ => (VerdictKind::CpuLimit, Confidence::Likely, vec![exact(fact, "/proc/PID/limits")]),
    }
}

/// SIGKILL at a hard limit of time, if one was reached.
pub(super) fn cpu_kill(findings: &Findings) -> Option<Evidence> {
    let Limits { cpu_hard_seconds, real_time_hard_us, .. } = findings.limits?;
    let used = findings.cpu?.as_secs_f64();
    if let Some(limit) = cpu_hard_seconds.filter(|limit| used >= *limit as f64 * REACHED) {
        let less = less_words(limit as f64, Some(used));
        let fact =
            format!("RLIMIT_CPU (hard) of {limit} s reached{}{less}", used_words(findings.cpu));
        return Some(inferred(fact, "/proc/PID/limits"));
    }
    let is_real_time = findings.is_real_time == Some(true);
    let limit = real_time_hard_us
        .filter(|limit| is_real_time && used >= Duration::from_micros(*limit).as_secs_f64())?;
    Some(inferred(real_time_words(limit, "hard", findings.cpu), "/proc/PID/limits"))
}

/// SIGXFSZ: at a write beyond RLIMIT_FSIZE.
pub(super) fn file_size(findings: &Findings) -> LimitVerdict {
    let Some(limits) = findings.limits else {
        let why =
            "the kernel sends SIGXFSZ at a write beyond RLIMIT_FSIZE; the limits were not readable";
        return (VerdictKind::FileSizeLimit, Confidence::Likely, vec![inferred(why, "signal(7)")]);
    };
    let Some(limit) = limits.file_size_bytes else {
        return by_a_process(Signal::XFSZ, "RLIMIT_FSIZE is unlimited");
    };
    let fact = format!("RLIMIT_FSIZE was {limit} bytes");
    let Some(file) = &findings.file_at_limit else {
        if findings.output_bytes >= limit / 2 {
            let wrote = exact(format!("{} bytes written", findings.output_bytes), "getrusage(2)");
            let evidence = vec![exact(fact, "/proc/PID/limits"), wrote];
            return (VerdictKind::FileSizeLimit, Confidence::Likely, evidence);
        }
        if let Some(file) = &findings.file_just_touched {
            let file = format!(
                "{} is smaller and was written or made just before the end: a write or truncate(2) \
                 beyond the limit leaves it so",
                file.display()
            );
            let evidence = vec![exact(fact, "/proc/PID/limits"), inferred(file, "stat(2)")];
            return (VerdictKind::FileSizeLimit, Confidence::Likely, evidence);
        }
        let fact = format!("{fact}, and no file of that size was found");
        let who = "a process may have sent SIGXFSZ (its sender is not known), or the job wrote far \
             beyond the end of a smaller file";
        let evidence = vec![exact(fact, "/proc/PID/limits"), inferred(who, "signal(7)")];
        return (VerdictKind::KilledByProcess, Confidence::Possible, evidence);
    };
    let file = format!("{} has just that size", file.display());
    let evidence = vec![exact(fact, "/proc/PID/limits"), exact(file, "stat(2)")];
    (VerdictKind::FileSizeLimit, Confidence::Certain, evidence)
}

fn by_a_process(signal: Signal, fact: impl Into<String>) -> LimitVerdict {
    let who = format!("so a process sent {signal}, not the kernel; its sender is not known");
    let evidence = vec![exact(fact, "/proc/PID/limits"), inferred(who, "signal(7)")];
    (VerdictKind::KilledByProcess, Confidence::Likely, evidence)
}

fn real_time_words(limit_us: u64, which: &str, used: Option<Duration>) -> String {
    let limit = Duration::from_micros(limit_us).as_secs_f64();
    format!("RLIMIT_RTTIME ({which}) was {limit} s{}", used_words(used))
}

/// Says why less time was used than the limit that was reached.
fn less_words(limit: f64, used: Option<f64>) -> &'static str {
    match used {
        Some(used) if used < limit => {
            " as measured; the kernel compares the limit with a count of ticks"
        }
        _ => "",
    }
}

fn used_words(used: Option<Duration>) -> String {
    used.map(|used| format!(", {:.2} s used", used.as_secs_f64())).unwrap_or_default()
}

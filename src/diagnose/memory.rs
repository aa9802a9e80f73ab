//! The evidence for and against death for want of memory, in grades.

use crate::diagnose::{exact, inferred};
use crate::model::process::Pid;
use crate::model::scene::{Memory, OomCounter};
use crate::model::verdict::{Confidence, Evidence, Quality};

/// A peak of this share of the limit is near it.
const NEAR: f64 = 0.8;
/// A share of time in which all tasks waited for memory, in percent, that is much.
const MUCH_PRESSURE: f64 = 20.0;

/// Judges whether a SIGKILL of that process came from the kernel for want of memory.
pub(super) fn judge(memory: &Memory, pid: Pid) -> Option<(Confidence, Vec<Evidence>)> {
    let (confidence, proof) = if let Some(proof) = certain(memory, pid) {
        (Confidence::Certain, proof)
    } else if let (Some(counter), true) = (risen(memory.host.as_ref()), is_near_limit(memory)) {
        (Confidence::Likely, counter_words(counter))
    } else if memory.own.is_none() && memory.host.is_none() {
        let is_pressed = memory.pressure_full.is_some_and(|share| share >= MUCH_PRESSURE);
        if !is_near_limit(memory) && !is_pressed {
            return None;
        }
        (Confidence::Possible, inferred("no counter of OOM kills could be read", "proc(5)"))
    } else {
        return None;
    };
    let mut evidence = vec![proof];
    evidence.extend(size_words(memory));
    evidence.extend(pressure_words(memory));
    Some((confidence, evidence))
}

/// Proof that the kernel killed for want of memory: it named the process, or the counter of our
/// own cgroup rose.
pub(super) fn certain(memory: &Memory, pid: Pid) -> Option<Evidence> {
    if memory.victims.contains(&pid) {
        return Some(exact(
            format!("the kernel's log names pid {pid} as killed for want of memory"),
            "/dev/kmsg",
        ));
    }
    risen(memory.own.as_ref()).map(counter_words)
}

/// Says why it was not want of memory, if that can be said.
pub(super) fn ruled_out(memory: &Memory) -> Option<Evidence> {
    // The host's counter has every OOM kill of the machine in it, also those in cgroups.
    let counter = memory.host.as_ref().or(memory.own.as_ref())?;
    (counter.rise() == 0)
        .then(|| exact(format!("not for want of memory: {} did not rise", counter.name), "proc(5)"))
}

fn risen(counter: Option<&OomCounter>) -> Option<&OomCounter> {
    counter.filter(|counter| counter.rise() > 0)
}

pub(super) fn counter_words(counter: &OomCounter) -> Evidence {
    exact(format!("{} +{}", counter.name, counter.rise()), "proc(5)")
}

fn is_near_limit(memory: &Memory) -> bool {
    peak(memory)
        .zip(memory.limit_bytes)
        .is_some_and(|(peak, limit)| peak as f64 >= limit as f64 * NEAR)
}

/// What the job itself used, if that was seen; else what its cgroup did.
fn peak(memory: &Memory) -> Option<u64> {
    memory.tree_peak_bytes.max(memory.peak_bytes)
}

/// The peak and the limit, if both are known.
pub(super) fn size_words(memory: &Memory) -> Option<Evidence> {
    let (peak, limit) = (peak(memory)?, memory.limit_bytes?);
    Some(Evidence {
        fact: format!("peak memory {} of limit {}", size(peak), size(limit)),
        source: "memory.peak",
        quality: Quality::Sampled,
    })
}

fn pressure_words(memory: &Memory) -> Option<Evidence> {
    let share = memory.pressure_full.filter(|share| *share >= MUCH_PRESSURE)?;
    Some(Evidence {
        fact: format!("all tasks waited for memory {share:.0} % of the last ten seconds"),
        source: "/proc/pressure/memory",
        quality: Quality::Sampled,
    })
}

/// A size with a unit that fits.
fn size(bytes: u64) -> String {
    let (gib, mib) = (bytes as f64 / (1 << 30) as f64, bytes as f64 / (1 << 20) as f64);
    if gib >= 1.0 { format!("{gib:.1} GiB") } else { format!("{mib:.1} MiB") }
}

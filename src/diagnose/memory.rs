//! The evidence for and against the kernel's OOM killer, in grades.
//!
//! A counter of OOM kills says that something was killed, and not what: others may be in the same
//! cgroup, and a worker may have been killed and replaced long before the job ended. The kernel's log
//! names each victim, where it may be read.

use std::time::Duration;

use crate::diagnose::evidence::{exact, inferred};
use crate::model::facts::Facts;
use crate::model::findings::{Death, Findings, MemoryFindings, OomCounter};
use crate::model::process::Pid;
use crate::model::signal::Signal;
use crate::model::text::byte_size;
use crate::model::time::Moment;
use crate::model::verdict::{Confidence, Evidence, Quality};

/// A peak of this share of a cgroup's limit is near it.
const NEAR: f64 = 0.8;
/// The same of the host's memory, of which the kernel and others have their part.
const NEAR_OF_HOST: f64 = 0.5;
/// In a cgroup with other processes, the OOM killer takes one of the largest.
const LARGE: f64 = 0.25;
/// A share of time in which all tasks waited for memory, in percent, that is much.
const MUCH_PRESSURE: f64 = 20.0;
/// A victim takes this time at most to end after the counter rose, on a busy machine too, and ...
const DYING: Duration = Duration::from_secs(1);
/// ... gives back at least this much memory in a second meanwhile.
const GIVEN_BACK_PER_SECOND: f64 = (1 << 30) as f64;

/// Judges whether a SIGKILL of the job came from the OOM killer.
pub(super) fn judge(facts: &Facts) -> Option<(Confidence, Vec<Evidence>)> {
    let memory = &facts.findings.memory;
    let (confidence, proof) = match killer(facts, facts.pid?, facts.ended_at) {
        Killer::Named(proof) => (Confidence::Certain, proof),
        Killer::Excluded(_) => return None,
        Killer::Counted(counter) => (of_counted(facts, counter), counter_words(counter)),
        Killer::CountedOnHost(counter) if is_near_limit(memory) => {
            (Confidence::Likely, counter_words(counter))
        }
        Killer::CountedOnHost(_) => return None,
        Killer::Unknown => {
            let is_pressed = memory.pressure_full.is_some_and(|share| share >= MUCH_PRESSURE);
            if !is_near_limit(memory) && !is_pressed {
                return None;
            }
            (Confidence::Possible, inferred(unread_words(memory), "proc(5)"))
        }
    };
    let mut evidence = vec![proof];
    evidence.extend(size_words(memory));
    evidence.extend(pressure_words(memory));
    Some((confidence, evidence))
}

/// Judges whether the SIGKILL of a descendant came from the OOM killer.
pub(super) fn of_descendant(facts: &Facts, death: &Death) -> Option<(Confidence, Vec<Evidence>)> {
    if death.signal() != Some(Signal::KILL) {
        return None;
    }
    match killer(facts, death.pid, death.at) {
        Killer::Named(proof) => Some((Confidence::Certain, vec![proof])),
        Killer::Counted(counter) => {
            // As many were counted as were killed: none of them by a process.
            let is_each = counter.rise() >= killed_descendants(facts);
            let is_sure = is_each && is_ours_alone(facts);
            let confidence = if is_sure { Confidence::Certain } else { Confidence::Likely };
            Some((confidence, vec![counter_words(counter)]))
        }
        Killer::Excluded(_) | Killer::CountedOnHost(_) | Killer::Unknown => None,
    }
}

/// Says why it was not the OOM killer, if that can be said.
pub(super) fn ruled_out(facts: &Facts) -> Option<Evidence> {
    match killer(facts, facts.pid?, facts.ended_at) {
        Killer::Excluded(mut why) => {
            why.fact = format!("not by the kernel's OOM killer: {}", why.fact);
            Some(why)
        }
        _ => None,
    }
}

/// Returns the counter of our cgroup if it rose for something that is not known.
pub(super) fn unexplained_rise(facts: &Facts) -> Option<&OomCounter> {
    let counter = facts.findings.memory.own.as_ref().filter(|counter| counter.rise() > 0)?;
    let memory = &facts.findings.memory;
    // With a name for each, and all deaths of ours known, these were others.
    let is_others = names_all(memory)
        && facts.findings.deaths.knows_all_of(Signal::KILL)
        && !facts.findings.deaths.kept().any(|death| memory.victims.contains(&death.pid));
    (!is_others).then_some(counter)
}

/// What is known of the SIGKILL that ended a process.
enum Killer<'a> {
    /// The kernel's log names the process as a victim.
    Named(Evidence),
    /// It was not the OOM killer, for this reason.
    Excluded(Evidence),
    /// The counter of our cgroup rose.
    Counted(&'a OomCounter),
    /// Only that of the host did, and we know no counter of the job's cgroup.
    CountedOnHost(&'a OomCounter),
    /// No counter is known.
    Unknown,
}

fn killer(facts: &Facts, pid: Pid, at: Moment) -> Killer<'_> {
    let memory = &facts.findings.memory;
    if memory.victims.contains(&pid) {
        let who = if Some(pid) == facts.pid { "the job" } else { "that process" };
        let fact = format!(
            "the kernel's log names {who} (pid {pid}) as a victim of the out-of-memory (OOM) killer"
        );
        return Killer::Named(exact(fact, "/dev/kmsg"));
    }
    let all = [&memory.own, &memory.host];
    // What dies in our cgroup is counted there, also when the whole host is out of memory.
    let flat = all.into_iter().flatten().find(|counter| counter.rise() == 0);
    if let Some(counter) = flat {
        return Killer::Excluded(exact(format!("{} did not rise", counter.name), "proc(5)"));
    }
    let Some(counter) = memory.own.as_ref().or(memory.host.as_ref()) else {
        if memory.names_all_victims {
            let fact = format!("the kernel's log does not name pid {pid} as a victim");
            return Killer::Excluded(exact(fact, "/dev/kmsg"));
        }
        return Killer::Unknown;
    };
    if names_all(memory) {
        let names: Vec<String> = memory.victims.iter().take(3).map(Pid::to_string).collect();
        let fact = format!("the kernel's log names other victims (pid {})", names.join(", "));
        return Killer::Excluded(exact(fact, "/dev/kmsg"));
    }
    if memory.own.is_none() {
        return Killer::CountedOnHost(counter);
    }
    // As many of our own were killed as were counted.
    if Some(pid) == facts.pid
        && counter.rise() <= killed_descendants(facts)
        && !is_near_limit(memory)
    {
        let fact = format!("{} +{} was for its descendants", counter.name, counter.rise());
        return Killer::Excluded(inferred(fact, "proc(5)"));
    }
    match memory.own_rose_at {
        Some(rose_at) if at - rose_at > dying(memory) => {
            let before = (facts.ended_at - rose_at).as_secs_f64();
            let fact = format!("{} rose {before:.1} s before and not again", counter.name);
            Killer::Excluded(Evidence { fact, source: "proc(5)", quality: Quality::Sampled })
        }
        _ => Killer::Counted(counter),
    }
}

fn dying(memory: &MemoryFindings) -> Duration {
    let size = memory.peak_bytes().unwrap_or(0) as f64;
    DYING + Duration::from_secs_f64(size / GIVEN_BACK_PER_SECOND)
}

/// Returns whether every kill that was counted has a name. The host's counter has all of them, those in
/// cgroups too.
fn names_all(memory: &MemoryFindings) -> bool {
    let counted = memory.host.as_ref().or(memory.own.as_ref()).map_or(u64::MAX, OomCounter::rise);
    memory.names_all_victims && memory.victims.len() as u64 >= counted
}

/// The counter of our cgroup rose just before the job was killed: for the job, a descendant of it, or another
/// process in the same cgroup?
fn of_counted(facts: &Facts, counter: &OomCounter) -> Confidence {
    let memory = &facts.findings.memory;
    if counter.rise() <= killed_descendants(facts) {
        return Confidence::Likely;
    }
    match is_ours_alone(facts) {
        true => Confidence::Certain,
        false if has_share(memory, LARGE) => Confidence::Likely,
        false => Confidence::Possible,
    }
}

/// Returns whether a kill in our cgroup can only have been for the job and its descendants, of which all deaths are
/// known: a stranger that came and was killed between two looks would have needed the memory that they had.
fn is_ours_alone(facts: &Facts) -> bool {
    let Findings { memory, deaths, .. } = &facts.findings;
    memory.own_is_private
        && deaths.knows_all_of(Signal::KILL)
        && !memory.limit_is_hosts
        && has_share(memory, NEAR)
}

fn killed_descendants(facts: &Facts) -> u64 {
    let is_killed = |death: &&Death| death.signal() == Some(Signal::KILL);
    facts.findings.deaths.kept().filter(is_killed).count() as u64
}

pub(super) fn counter_words(counter: &OomCounter) -> Evidence {
    exact(format!("{} +{}", counter.name, counter.rise()), "proc(5)")
}

fn unread_words(memory: &MemoryFindings) -> &'static str {
    match memory.is_read_too_late {
        true => "it ended before the counters of OOM kills were first read",
        false => "no counter of OOM kills can be read here",
    }
}

/// Says that a job that ended before the counters were first read was small, if it was: the OOM killer takes one
/// of the largest processes.
pub(super) fn small_words(memory: &MemoryFindings) -> Option<Evidence> {
    let peak = memory.peak_bytes().unwrap_or(memory.floor_bytes);
    let is_small = memory.limit_bytes.is_some_and(|limit| (peak as f64) < limit as f64 * LARGE);
    let fact = format!("{}, and it was far below the limit of memory", unread_words(memory));
    (memory.is_read_too_late && is_small).then(|| inferred(fact, "getrusage(2)"))
}

fn is_near_limit(memory: &MemoryFindings) -> bool {
    has_share(memory, if memory.limit_is_hosts { NEAR_OF_HOST } else { NEAR })
}

fn has_share(memory: &MemoryFindings, share: f64) -> bool {
    let peak = memory.peak_bytes().zip(memory.limit_bytes);
    peak.is_some_and(|(peak, limit)| peak as f64 >= limit as f64 * share)
}

/// The peak and the limit, if both are known.
pub(super) fn size_words(memory: &MemoryFindings) -> Option<Evidence> {
    let (peak, limit) = (memory.peak_bytes()?, memory.limit_bytes?);
    let of = if memory.limit_is_hosts { "the host's" } else { "limit" };
    Some(Evidence {
        fact: format!("peak RSS {} of {of} {}", byte_size(peak), byte_size(limit)),
        source: "/proc/PID/stat, getrusage(2)",
        quality: Quality::Sampled,
    })
}

fn pressure_words(memory: &MemoryFindings) -> Option<Evidence> {
    let share = memory.pressure_full.filter(|share| *share >= MUCH_PRESSURE)?;
    Some(Evidence {
        fact: format!("all tasks waited for memory {share:.0} % of the time"),
        source: "/proc/pressure/memory",
        quality: Quality::Exact,
    })
}

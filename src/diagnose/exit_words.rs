//! What a status or a fault signal means by convention. It is a hint, never a proof.

use crate::diagnose::evidence::inferred;
use crate::model::facts::Facts;
use crate::model::findings::Findings;
use crate::model::signal::Signal;
use crate::model::verdict::{Evidence, Quality};

/// Returns what a status of 124 and more usually means; nothing for the others, which mean
/// whatever their program says.
pub(super) fn hint(facts: &Facts, status: u8) -> Option<Evidence> {
    if status == 127
        && let Some(line) = loader_line(&facts.findings)
    {
        let fact = format!("the dynamic loader found no shared library: {line}");
        return Some(Evidence { fact, source: "standard error", quality: Quality::Sampled });
    }
    let fact = match status {
        124 if facts.findings.names_timeout => {
            "the job itself returned it, as timeout(1) in its command does at its limit".to_owned()
        }
        124 => return None,
        125 => "the job itself returned it, as wrappers do for a failure of their own".to_owned(),
        126 => {
            "the job itself returned it, as shells do for a command they cannot execute".to_owned()
        }
        127 => "the job itself returned it, as shells do for a command they cannot find, and the \
               dynamic loader for a shared library"
            .to_owned(),
        129..=192 => number_words(facts, Signal::new(i32::from(status) - 128)?),
        _ => return None,
    };
    Some(inferred(fact, "sh(1)"))
}

/// A shell reports its command so; a program that handles the signal may return the same number.
fn number_words(facts: &Facts, signal: Signal) -> String {
    if !matches!(signal, Signal::HUP | Signal::INT | Signal::TERM) {
        return format!(
            "the job itself returned it; shells do so when a command of theirs dies of {signal}; \
             no signal ended the job itself"
        );
    }
    let mut text = format!(
        "the job itself returned it, as programs do that handle {signal} (a Java VM, for one), and \
         shells when a command of theirs dies of it"
    );
    let mut heard = facts.stop_request.iter().chain(&facts.heard);
    if !heard.any(|heard| heard.info.signal == signal) {
        text.push_str(&format!("; no {signal} came through childminder"));
    }
    text
}

/// The message of a dynamic loader (glibc's and musl's), in the last lines of standard error.
fn loader_line(findings: &Findings) -> Option<&str> {
    let mut lines = findings.last_words.iter().rev().map(String::as_str);
    lines.find(|line| {
        line.contains("error while loading shared libraries")
            || line.contains("Error loading shared library")
    })
}

/// Returns why a signal that the kernel sends for faults is sent.
pub(super) fn fault(signal: Signal, findings: &Findings) -> Evidence {
    let why = match signal {
        Signal::ABRT => {
            "the program aborted itself, as by abort(3): a failed assert(3), a damaged heap that \
             malloc(3) found, a panic or an uncaught exception; a process could send it, too"
                .to_owned()
        }
        Signal::SYS => "the kernel sends it for a system call that a seccomp filter forbids (a \
                        sandbox or container); a process could, too"
            .to_owned(),
        Signal::BUS if !findings.full.is_empty() => {
            let places: Vec<String> =
                findings.full.iter().map(|place| place.display().to_string()).collect();
            format!(
                "no room left in {}: the kernel sends it for a write to a mapped file that finds no \
                 room",
                places.join(", ")
            )
        }
        Signal::BUS => "the kernel sends it for a mapped file that was cut or cannot be read, and \
                        for faults of the program; a process could, too"
            .to_owned(),
        _ => {
            "the kernel sends it for a fault of the program itself; a process could, too".to_owned()
        }
    };
    inferred(why, "signal(7)")
}

/// Says what became of the core dump.
pub(super) fn core(findings: &Findings) -> Option<Evidence> {
    let fact = findings.core.as_ref()?.to_string();
    Some(Evidence { fact, source: "core(5)", quality: Quality::Exact })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_loader_is_found_among_the_last_lines() {
        let glibc =
            "./job: error while loading shared libraries: libx.so: cannot open shared object file";
        let findings = |lines: &[&str]| Findings {
            last_words: lines.iter().map(|text| (*text).to_owned()).collect(),
            ..Findings::default()
        };
        assert_eq!(loader_line(&findings(&["starting", glibc])), Some(glibc));
        let musl =
            "Error loading shared library libx.so: No such file or directory (needed by ./job)";
        assert_eq!(loader_line(&findings(&[musl, "stopping"])), Some(musl));
        assert_eq!(loader_line(&findings(&["sh: 1: job: not found"])), None);
    }

    #[test]
    fn a_full_disk_explains_a_bus_error_and_no_other_fault() {
        let full = Findings { full: vec!["/data".into()], ..Findings::default() };
        assert!(fault(Signal::BUS, &full).fact.starts_with("no room left in /data"));
        assert!(!fault(Signal::BUS, &Findings::default()).fact.contains("room"));
        assert!(fault(Signal::SEGV, &full).fact.contains("the program itself"));
        assert!(fault(Signal::ABRT, &full).fact.contains("assert(3)"));
    }
}

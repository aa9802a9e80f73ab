//! Our own children, also those that /proc does not show.
//!
//! A child keeps its number until we reap it, and only the supervising thread reaps. As long as
//! waitid(2) knows a number as that of a child, the number is safe to use on that thread.

use std::fs;

use crate::model::outcome::WaitStatus;
use crate::model::process::Pid;
use crate::sys::proc::{self, UNKNOWN};
use crate::sys::wait::{self, Waited};

/// Where /proc does not list our children, this many numbers are tried: those from the job's on,
/// and the lowest, where the kernel continues after the highest.
const PROBED: i32 = 8192;

/// Returns the children of all our threads, zombies too, also those whose directories below /proc
/// are hidden (`hidepid` in proc(5)); `None` if they cannot be listed.
///
/// The kernel's list is complete as long as no child is reaped while it is read.
pub(super) fn list() -> Option<Vec<Pid>> {
    // A thread that ends meanwhile leaves its children to another one.
    (0..3).filter(|_| proc::is_usable()).find_map(|_| try_list())
}

fn try_list() -> Option<Vec<Pid>> {
    let mut all = Vec::new();
    for thread in fs::read_dir("/proc/self/task").ok()? {
        let thread = thread.ok()?.file_name();
        let text = fs::read_to_string(format!("/proc/self/task/{}/children", thread.to_str()?));
        all.extend(
            text.ok()?.split_ascii_whitespace().filter_map(|word| word.parse().ok()).map(Pid),
        );
    }
    Some(all)
}

/// Finds children by asking waitid(2) about single numbers, `first` and those that follow it, and
/// the lowest.
pub(super) fn probe(first: Pid) -> Vec<Pid> {
    let following = first.0..first.0.saturating_add(PROBED);
    let lowest = (1..=PROBED).filter(|number| !following.contains(number));
    following.clone().chain(lowest).map(Pid).filter(|pid| is_child(*pid)).collect()
}

/// Returns whether that is a child of ours that was not reaped.
#[must_use]
pub fn is_child(pid: Pid) -> bool {
    matches!(wait::look_at(pid), Ok(Waited::Changed(..) | Waited::Nothing))
}

/// Returns the state letter of a child, as far as waitid(2) knows it; `None` if it has ended or is
/// not a child.
pub(super) fn state(pid: Pid) -> Option<char> {
    match wait::look_at(pid) {
        Ok(Waited::Changed(_, WaitStatus::Stopped(_))) => Some('T'),
        Ok(Waited::Changed(_, WaitStatus::Continued | WaitStatus::Traced(_)) | Waited::Nothing) => {
            Some(UNKNOWN)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a child of the test's own")]
    fn a_child_is_listed_and_probed_until_it_is_reaped() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid(child.id().cast_signed());
        assert!(proc::is_usable());
        if let Some(all) = list() {
            assert!(all.contains(&pid));
        }
        assert!(probe(pid).contains(&pid));
        assert!(!probe(Pid(1)).contains(&Pid(1)), "no child of ours");
        assert_eq!(state(pid), Some(UNKNOWN));
        drop(child.stdin.take());
        let begin = std::time::Instant::now();
        while state(pid).is_some() {
            assert!(begin.elapsed().as_secs() < 20, "it does not end");
            std::thread::yield_now();
        }
        assert!(is_child(pid), "a zombie is a child");
        child.wait().unwrap();
        assert!(!is_child(pid));
    }
}

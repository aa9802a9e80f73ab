//! Room for threads beside the supervising one (getrlimit(2), proc(5)), and where one runs.
//!
//! Memory that is not available aborts the whole program. What is optional is not begun where a limit
//! leaves too little.

use std::fs;
use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// What a thread needs besides its stack, in bytes: its control block and a few buffers.
pub const HEAP_BYTES: u64 = 2 * 1024 * 1024;

/// Returns whether the limits on memory leave that much, in bytes.
///
/// # Errors
///
/// They do not: the text names the limit and what is left.
pub fn check_room(bytes: u64) -> io::Result<()> {
    let limits = [(Resource::RLIMIT_AS, "RLIMIT_AS", 0), (Resource::RLIMIT_DATA, "RLIMIT_DATA", 5)];
    for (resource, name, field) in limits {
        let (soft, _) = getrlimit(resource)?;
        if soft == RLIM_INFINITY {
            continue;
        }
        // Without /proc nobody knows, and starting the thread may still fail cleanly.
        let Some(used) = used(field) else { continue };
        let left = soft.saturating_sub(used);
        if left < bytes {
            let text = format!("{name} leaves {} KiB of {} KiB", left / 1024, bytes / 1024);
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, text));
        }
    }
    Ok(())
}

/// Returns a field of /proc/self/statm in bytes.
fn used(field: usize) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(field)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    pages.checked_mul(page.unsigned_abs())
}

/// Returns the processor that the calling thread runs on (sched_getcpu(3)); `None` if unknown.
#[must_use]
pub fn current_cpu() -> Option<u32> {
    // SAFETY: no argument; -1 is an error.
    u32::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// Returns the processors on which the calling thread may run (sched_getaffinity(2)).
///
/// # Errors
///
/// Of sched_getaffinity(2).
pub fn allowed_cpus() -> io::Result<Vec<u32>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let all = 0..CpuSet::count();
    Ok(all.filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).map(|cpu| cpu as u32).collect())
}

/// Lets the calling thread run on these processors only (sched_setaffinity(2)).
///
/// # Errors
///
/// Of sched_setaffinity(2): none of them is allowed or online.
pub fn run_on(cpus: &[u32]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu as usize)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_use_is_read() {
        let (space, data) = (used(0).expect("statm"), used(5).expect("statm"));
        assert!(space > data && data > 0, "{space} {data}");
        assert!(current_cpu().is_some());
    }

    #[test]
    fn a_thread_runs_where_it_was_put() {
        let thread = std::thread::spawn(|| {
            let allowed = allowed_cpus().expect("a set");
            for cpu in &allowed {
                run_on(&[*cpu]).expect("an allowed one");
                assert_eq!(
                    (current_cpu(), allowed_cpus().expect("a set")),
                    (Some(*cpu), vec![*cpu])
                );
            }
            run_on(&allowed).expect("all of them");
            assert_eq!(allowed_cpus().expect("a set"), allowed);
            assert!(run_on(&[]).is_err());
        });
        thread.join().expect("no panic");
    }
}

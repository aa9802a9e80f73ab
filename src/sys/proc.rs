//! What /proc says about single processes (proc(5)), where it can be used.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::model::proc_stat;
use crate::model::process::{Descendant, Pid, ProcessKey, is_proc_of_our_namespace};
use crate::sys::clock;

/// The state letter of a process whose state is not visible.
pub(super) const UNKNOWN: char = '?';

/// What /proc/PID/stat says of interest here.
pub(super) struct Stat {
    pub(super) process: Descendant,
    pub(super) parent: Pid,
}

/// Returns whether /proc is mounted and shows our pid namespace (pid_namespaces(7)): in another
/// one each number means another process. Looked up once.
#[must_use]
pub fn is_usable() -> bool {
    static IS_USABLE: OnceLock<bool> = OnceLock::new();
    IS_USABLE.get().copied().unwrap_or_else(|| match fs::read_to_string("/proc/self/status") {
        Ok(status) => *IS_USABLE.get_or_init(|| is_proc_of_our_namespace(&status, ourselves())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => *IS_USABLE.get_or_init(|| false),
        // As a rule there is no descriptor left for now.
        Err(_) => false,
    })
}

fn ourselves() -> Pid {
    Pid(nix::unistd::getpid().as_raw())
}

/// Returns our own pid and start time, also where /proc is of another pid namespace.
pub(super) fn own_key() -> Option<ProcessKey> {
    let text = fs::read("/proc/self/stat").ok()?;
    Some(ProcessKey { pid: ourselves(), start_ticks: proc_stat::parse(&text)?.start_ticks })
}

/// Returns the children of all threads of a process; none if it has gone.
pub(super) fn children(pid: Pid) -> Vec<Pid> {
    let mut all = Vec::new();
    if !is_usable() {
        return all;
    }
    for thread in numbers_in(&format!("/proc/{pid}/task")).unwrap_or_default() {
        // A thread that has gone left its children to another one.
        let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children"));
        all.extend(text.unwrap_or_default().split_ascii_whitespace().filter_map(to_pid));
    }
    all
}

/// Returns the name of a thread (`comm` in proc(5)); `None` if it has gone.
#[must_use]
pub fn comm(thread: Pid) -> Option<String> {
    let text = is_usable().then(|| fs::read(format!("/proc/{thread}/comm")).ok())??;
    Some(String::from_utf8_lossy(text.strip_suffix(b"\n").unwrap_or(&text)).into_owned())
}

/// Returns the process of a thread; `None` if it has gone.
#[must_use]
pub fn process_of(thread: Pid) -> Option<Pid> {
    let text = is_usable().then(|| fs::read_to_string(format!("/proc/{thread}/status")).ok())??;
    text.lines().find_map(|line| to_pid(line.strip_prefix("Tgid:")?.trim()))
}

pub(super) fn numbers_in(directory: &str) -> Option<Vec<Pid>> {
    let entries = fs::read_dir(directory).ok()?;
    Some(entries.flatten().filter_map(|entry| to_pid(entry.file_name().to_str()?)).collect())
}

fn to_pid(text: &str) -> Option<Pid> {
    text.parse().ok().filter(|pid| *pid > 0).map(Pid)
}

/// No execve(2) takes longer to put the new environment in the place of the old one.
const EXECVE_MAX: Duration = Duration::from_millis(20);

/// The kernel permits 6 MiB of arguments and environment (execve(2)). But a process may declare any of its
/// memory to be its environment (PR_SET_MM of prctl(2)), terabytes of it.
const ENVIRON_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Reads a file `/proc/PID/environ` to a bound.
///
/// # Errors
///
/// Of open(2) and read(2).
pub fn read_environ(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(ENVIRON_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Returns the environment that a process was started with; empty if it has none, `None` if it
/// cannot be read.
pub(super) fn environ(pid: Pid) -> Option<Vec<u8>> {
    let deadline = clock::now() + EXECVE_MAX;
    loop {
        let text = is_usable().then(|| read_environ(format!("/proc/{pid}/environ").as_ref()));
        let text = text?.ok()?;
        // In the middle of execve(2) there is none for a moment.
        if !text.is_empty() || clock::now() >= deadline || !is_there(pid) {
            return Some(text);
        }
        std::thread::yield_now();
    }
}

/// Reads /proc/PID/stat; `None` if the process has gone, or /proc does not show it.
pub(super) fn read_stat(pid: Pid) -> Option<Stat> {
    if !is_usable() {
        return None;
    }
    let mut text = Vec::with_capacity(512);
    fs::File::open(format!("/proc/{pid}/stat")).ok()?.read_to_end(&mut text).ok()?;
    parse_stat(pid, &text)
}

fn parse_stat(pid: Pid, text: &[u8]) -> Option<Stat> {
    let stat = proc_stat::parse(text)?;
    let name = String::from_utf8_lossy(stat.name).into_owned();
    let key = ProcessKey { pid, start_ticks: stat.start_ticks };
    let state = match char::from(stat.state) {
        'Z' if stat.is_alive() => state_of_threads(pid),
        state => state,
    };
    Some(Stat { process: Descendant { key, name, state }, parent: stat.parent })
}

/// Returns the state of a process whose first thread has ended: that of another thread.
fn state_of_threads(pid: Pid) -> char {
    let threads = numbers_in(&format!("/proc/{pid}/task")).unwrap_or_default();
    let state = |thread: Pid| {
        let text = fs::read(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
        let state = char::from(proc_stat::parse(&text)?.state);
        (!matches!(state, 'Z' | 'X')).then_some(state)
    };
    threads.into_iter().find_map(state).unwrap_or(UNKNOWN)
}

/// Returns whether a process ends just now: SIGKILL is pending for it, or its only thread is on its way out
/// (PF_EXITING of linux/sched.h).
#[must_use]
pub fn is_dying(pid: Pid) -> bool {
    const EXITING: u64 = 0x4;
    let text = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let stat = text("stat");
    let is_exiting =
        proc_stat::parse(&stat).is_some_and(|stat| stat.threads == 1 && stat.flags & EXITING != 0);
    is_exiting || has_pending_kill(&text("status"))
}

/// Reads the signals that wait for the first thread, or for the process (proc(5)).
fn has_pending_kill(status: &[u8]) -> bool {
    let status = String::from_utf8_lossy(status);
    let masks = status.lines().filter_map(|line| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    masks.into_iter().any(|mask| mask & 1 << (libc::SIGKILL - 1) != 0)
}

/// Returns whether that process is there and not a zombie.
fn is_there(pid: Pid) -> bool {
    read_stat(pid).is_some_and(|stat| stat.process.state != 'Z')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat_of(name: &str) -> Vec<u8> {
        let numbers: Vec<String> = (5..=52).map(|field| field.to_string()).collect();
        format!("77 ({name}) S 42 {}\n", numbers.join(" ")).into_bytes()
    }

    #[test]
    fn names_with_brackets_and_blanks_do_not_shift_the_fields() {
        for name in ["cat", "a) R (", "(sd-pam)", "", "x y"] {
            let stat = parse_stat(Pid(77), &stat_of(name)).expect(name);
            assert_eq!(stat.process.name, name);
            assert_eq!(stat.process.state, 'S');
            assert_eq!(stat.parent, Pid(42));
            assert_eq!(stat.process.key.start_ticks, 22);
        }
    }
}

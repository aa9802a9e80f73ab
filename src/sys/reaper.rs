//! The processes of the job: found by walking down from us, and signalled without ever hitting
//! a stranger.
//!
//! The walk is racy by nature, so each process is held by a pidfd first and then its ancestry is
//! checked once more: a pid that meanwhile went to a stranger does not lead back to us.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::model::proc_stat;
use crate::model::process::{Descendant, Pid, ProcessKey};
use crate::model::signal::Signal;
use crate::sys::{SysError, clock, signals};

/// The deepest chain of parents that is followed; a deeper one is taken for a stranger.
const DEEPEST: usize = 1024;

/// All processes below ours, except those that were our children before the job was.
pub struct Tree {
    ourselves: Pid,
    /// Children that we got from a program that executed childminder in its place.
    strangers: BTreeSet<ProcessKey>,
    /// `NAME=value` that all processes of the job have in their environment.
    mark: String,
    /// A process of our own.
    left_out: Option<Pid>,
}

/// A process of the job, held by its pidfd.
struct Held {
    process: Descendant,
    pidfd: OwnedFd,
}

/// What /proc/PID/stat says of interest here.
struct Stat {
    process: Descendant,
    parent: Pid,
}

impl Tree {
    /// Notes the children that exist before the job: `has_children` saves the look for them,
    /// which as a rule would find none. `mark` is an entry of the job's environment.
    #[must_use]
    pub fn new(has_children: bool, mark: String) -> Tree {
        let ourselves = Pid(nix::unistd::getpid().as_raw());
        let mut tree = Tree { ourselves, strangers: BTreeSet::new(), mark, left_out: None };
        if has_children {
            tree.strangers = tree.walk().iter().map(|stat| stat.process.key).collect();
        }
        tree
    }

    /// Leaves a child out that is not the job's but our own, and outlives the job.
    pub fn leave_out(&mut self, pid: Pid) {
        self.left_out = Some(pid);
    }

    /// Returns the processes that were ours before the job was.
    #[must_use]
    pub fn strangers(&self) -> Vec<ProcessKey> {
        self.strangers.iter().copied().collect()
    }

    /// Returns the living processes of the job; zombies are not among them.
    #[must_use]
    pub fn living(&self) -> Vec<Descendant> {
        self.walk().into_iter().map(|stat| stat.process).filter(is_alive).collect()
    }

    /// Returns the name of a process of the job, alive or not yet reaped.
    #[must_use]
    pub fn name_of_own(&self, pid: Pid) -> Option<String> {
        let stat = read_stat(pid)?;
        (pid != self.ourselves && self.leads_to_us(stat.parent)).then_some(stat.process.name)
    }

    /// Returns whether that process is childminder or one of the job.
    #[must_use]
    pub fn contains(&self, pid: Pid) -> bool {
        self.leads_to_us(pid)
    }

    /// Returns whether that child is one from before the job.
    #[must_use]
    pub fn is_stranger(&self, pid: Pid) -> bool {
        !self.strangers.is_empty()
            && read_stat(pid).is_some_and(|stat| self.strangers.contains(&stat.process.key))
    }

    /// Sends a signal to every living process of the job that `wanted` accepts.
    ///
    /// # Errors
    ///
    /// The first refusal of the kernel, after all were tried: a program with the set-user-ID bit
    /// may have left our reach.
    pub fn send(
        &self,
        signal: Signal,
        wanted: impl Fn(&Descendant) -> bool,
    ) -> Result<(), SysError> {
        let mut result = Ok(());
        for process in self.living().into_iter().filter(wanted) {
            let Some(held) = self.hold(process) else { continue };
            if let Err(error) = signals::send(held.pidfd.as_fd(), signal, None) {
                result = result.and(Err(SysError::new(
                    format!("send {signal} to process {}", held.process),
                    error.source,
                )));
            }
        }
        result
    }

    /// Holds a process and makes sure that what is held is still the one that was found.
    fn hold(&self, process: Descendant) -> Option<Held> {
        let pidfd = signals::open_pidfd(process.key.pid)?;
        let stat = read_stat(process.key.pid)?;
        let is_same = stat.process.key == process.key && is_alive(&stat.process);
        (is_same && self.leads_to_us(stat.parent)).then_some(Held { process, pidfd })
    }

    fn leads_to_us(&self, mut parent: Pid) -> bool {
        for _ in 0..DEEPEST {
            if parent == self.ourselves {
                return true;
            }
            match read_stat(parent) {
                Some(stat) if parent.0 > 1 => parent = stat.parent,
                _ => return false,
            }
        }
        false
    }

    /// Walks down /proc/PID/task/TID/children (proc(5)), or, where the kernel has no such file,
    /// through all of /proc.
    fn walk(&self) -> Vec<Stat> {
        let mut seen = BTreeSet::from([self.ourselves]);
        seen.extend(self.left_out);
        let mut found = Vec::new();
        let is_told = fs::exists("/proc/thread-self/children").unwrap_or(false);
        let mut open = if is_told { children(self.ourselves) } else { self.scan() };
        while let Some(pid) = open.pop() {
            if !seen.insert(pid) {
                continue;
            }
            let Some(stat) = read_stat(pid) else { continue };
            if !self.is_strange(&stat) {
                open.extend(children(pid));
                found.push(stat);
            }
        }
        found
    }

    /// Where there are strangers, what they leave behind comes to us like the job's orphans: then
    /// only a child with the mark is the job's.
    fn is_strange(&self, stat: &Stat) -> bool {
        if self.strangers.is_empty() || stat.parent != self.ourselves {
            return self.strangers.contains(&stat.process.key);
        }
        let environ = environ(stat.process.key.pid);
        !environ.split(|byte| *byte == 0).any(|entry| entry == self.mark.as_bytes())
    }

    /// Every process of the machine that leads to us.
    fn scan(&self) -> Vec<Pid> {
        numbers_in("/proc")
            .into_iter()
            .filter(|pid| read_stat(*pid).is_some_and(|stat| self.leads_to_us(stat.parent)))
            .collect()
    }
}

fn is_alive(process: &Descendant) -> bool {
    !matches!(process.state, 'Z' | 'X')
}

/// Returns the children of all threads of a process; none if it has gone.
fn children(pid: Pid) -> Vec<Pid> {
    let mut all = Vec::new();
    for thread in numbers_in(&format!("/proc/{pid}/task")) {
        // A thread that has gone left its children to another one.
        let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children"));
        all.extend(text.unwrap_or_default().split_ascii_whitespace().filter_map(to_pid));
    }
    all
}

fn numbers_in(directory: &str) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter_map(|entry| to_pid(entry.file_name().to_str()?)).collect()
}

fn to_pid(text: &str) -> Option<Pid> {
    text.parse().ok().filter(|pid| *pid > 0).map(Pid)
}

/// No execve(2) takes longer to put the new environment in the place of the old one.
const EXECVE_MAX: Duration = Duration::from_millis(20);

/// Returns the environment that a process was started with; empty if it has none, or has gone.
fn environ(pid: Pid) -> Vec<u8> {
    let deadline = clock::now() + EXECVE_MAX;
    loop {
        let text = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        // In the middle of execve(2) there is none for a moment.
        if !text.is_empty() || clock::now() >= deadline || describe(pid).is_none() {
            return text;
        }
        std::thread::yield_now();
    }
}

/// Reads /proc/PID/stat; `None` if the process has gone.
fn read_stat(pid: Pid) -> Option<Stat> {
    let mut text = Vec::with_capacity(512);
    fs::File::open(format!("/proc/{pid}/stat")).ok()?.read_to_end(&mut text).ok()?;
    parse_stat(pid, &text)
}

fn parse_stat(pid: Pid, text: &[u8]) -> Option<Stat> {
    let stat = proc_stat::parse(text)?;
    let name = String::from_utf8_lossy(stat.name).into_owned();
    let key = ProcessKey { pid, start_ticks: stat.start_ticks };
    let process = Descendant { key, name, state: char::from(stat.state) };
    Some(Stat { process, parent: stat.parent })
}

/// Returns the command line of a process with blanks between its words, or its name in brackets;
/// `None` if it has gone.
#[must_use]
pub fn command_line(pid: Pid) -> Option<String> {
    /// More than a log line shows.
    const LONGEST: u64 = 2048;
    let mut text = Vec::new();
    let file = fs::File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(LONGEST).read_to_end(&mut text).ok()?;
    while text.last() == Some(&0) {
        text.pop();
    }
    if text.is_empty() {
        // A zombie or a thread of the kernel.
        return read_stat(pid).map(|stat| format!("[{}]", stat.process.name));
    }
    text.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Returns a process by its pid, if it is alive.
#[must_use]
pub fn describe(pid: Pid) -> Option<Descendant> {
    read_stat(pid).map(|stat| stat.process).filter(is_alive)
}

/// Returns which process has a pid, alive or a zombie; `None` if none has it.
#[must_use]
pub fn key(pid: Pid) -> Option<ProcessKey> {
    read_stat(pid).map(|stat| stat.process.key)
}

/// Returns the parent of a process; `None` if it has gone.
#[must_use]
pub fn parent(pid: Pid) -> Option<Pid> {
    read_stat(pid).map(|stat| stat.parent)
}

/// Returns the name of a process (`comm` in proc(5)); `None` if it has gone.
#[must_use]
pub fn name(pid: Pid) -> Option<String> {
    read_stat(pid).map(|stat| stat.process.name)
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

    #[test]
    fn our_parent_is_no_process_of_the_job() {
        let tree = Tree::new(false, String::new());
        let parent = Pid(nix::unistd::getppid().as_raw());
        assert!(tree.living().iter().all(|process| process.key.pid != parent));
        assert!(!tree.leads_to_us(parent));
    }
}

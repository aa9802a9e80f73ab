//! The processes of the job: found by walking down from us, and signalled without ever hitting
//! a stranger.
//!
//! The walk is racy by nature, so a process that is not our child is held by a pidfd first and then
//! its ancestry is checked again: a pid that meanwhile went to a stranger does not lead back to us.
//! The walk finds what to signal. That nothing is left is proven by waitid(2) alone: we are a
//! subreaper, so as long as any process of the job exists, we have a child.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::model::process::{Descendant, Pid, ProcessKey};
use crate::model::signal::Signal;
use crate::sys::proc::{self, Stat, read_stat};
use crate::sys::wait::{self, Waited};
use crate::sys::{SysError, children, clock, signals};

/// The deepest chain of parents that is followed; a deeper one is taken for a stranger.
const DEEPEST: usize = 1024;

/// How long SIGKILL is repeated without a pause for processes that fork meanwhile.
const KILL_BURST: Duration = Duration::from_millis(20);

/// The name of a process that /proc does not show.
const HIDDEN: &str = "not visible";

/// All processes below ours, except those that were our children before the job was.
pub struct Tree {
    ourselves: Pid,
    /// The job, until it is reaped.
    job: Option<Pid>,
    /// The number of the last job: those of its descendants mostly follow.
    probed_from: Pid,
    /// Children that we got from a program that executed childminder in its place, and what is
    /// below them.
    strangers: BTreeSet<ProcessKey>,
    /// Whether there were any: what they leave behind is a stranger too, after their end.
    has_strangers: bool,
    /// Those of them that are our children and not yet reaped; `None` if there are some and they
    /// cannot be listed.
    strange_children: Option<BTreeSet<Pid>>,
    /// `NAME=value` that all processes of the job have in their environment.
    mark: String,
    /// A process of our own.
    left_out: Option<Pid>,
}

/// What a child of ours is that was not there before the job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ChildKin {
    Job,
    /// It was started by a process from before the job.
    Strange,
    /// Its environment is not readable or empty.
    Unclear,
}

impl Tree {
    /// Notes the children that exist before the job: `has_children` saves the look for them,
    /// which as a rule would find none. `mark` is an entry of the job's environment.
    #[must_use]
    pub fn new(has_children: bool, mark: String) -> Tree {
        let ourselves = Pid(nix::unistd::getpid().as_raw());
        let (strangers, strange_children) = (BTreeSet::new(), Some(BTreeSet::new()));
        let (job, probed_from) = (None, ourselves);
        let mut tree = Tree {
            ourselves,
            job,
            probed_from,
            strangers,
            has_strangers: false,
            strange_children,
            mark,
            left_out: None,
        };
        if has_children {
            let found = tree.walk(&BTreeSet::new());
            tree.strangers = found.iter().map(|stat| stat.process.key).collect();
            tree.strange_children = children::list().map(|all| all.into_iter().collect());
            tree.has_strangers = true;
        }
        tree
    }

    /// Notes the job that was started.
    pub fn started(&mut self, job: Pid) {
        (self.job, self.probed_from) = (Some(job), job);
    }

    /// Notes that a child was reaped: its number may now become that of another process.
    pub fn reaped(&mut self, pid: Pid) {
        self.job = self.job.filter(|job| *job != pid);
        if let Some(children) = &mut self.strange_children {
            children.remove(&pid);
        }
    }

    /// Returns whether it is proven that no process of the job exists. A zombie counts as one until
    /// it was reaped.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match wait::look() {
            Ok(Waited::NoChild) => true,
            Err(_) if !self.has_strangers => wait::is_childless(),
            // Those that have children from before the job must know all of them.
            _ if self.has_strangers => children::list()
                .is_some_and(|all| all.into_iter().all(|pid| self.is_strange_child(pid))),
            _ => false,
        }
    }

    /// Says it of living children only.
    fn is_strange_child(&self, pid: Pid) -> bool {
        let Some(known) = &self.strange_children else { return false };
        children::state(pid).is_some()
            && (known.contains(&pid) || self.kin(pid) == ChildKin::Strange)
    }

    /// Leaves a child out that is not the job's but our own, and outlives the job.
    pub fn leave_out(&mut self, pid: Pid) {
        self.left_out = Some(pid);
    }

    /// Returns the processes that are ours and not the job's: strangers, and what was left out.
    #[must_use]
    pub fn left_out(&self) -> Vec<Pid> {
        self.strangers.iter().map(|key| key.pid).chain(self.left_out).collect()
    }

    /// Returns the processes that were ours before the job was.
    #[must_use]
    pub fn strangers(&self) -> Vec<ProcessKey> {
        self.strangers.iter().copied().collect()
    }

    /// Returns the living processes of the job; zombies are not among them.
    #[must_use]
    pub fn living(&self) -> Vec<Descendant> {
        let all = self.walk(&BTreeSet::new()).into_iter();
        all.map(|stat| stat.process).filter(is_alive).collect()
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
        self.strange_children.as_ref().is_some_and(|children| children.contains(&pid))
            || !self.strangers.is_empty()
                && read_stat(pid).is_some_and(|stat| self.strangers.contains(&stat.process.key))
    }

    /// Sends a signal to every living process of the job that `wanted` accepts. SIGKILL is repeated
    /// for a bounded time, as long as there are others: a process that forks and ends at once may
    /// leave another one behind.
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
        let (mut tried, mut settled) = (BTreeSet::new(), BTreeSet::new());
        let deadline = clock::now() + KILL_BURST;
        loop {
            let mut is_new = false;
            for stat in self.walk(&settled) {
                if stat.parent == self.ourselves {
                    // Nobody reaps meanwhile, so this number stays that of this child.
                    settled.insert(stat.process.key.pid);
                }
                if is_alive(&stat.process)
                    && wanted(&stat.process)
                    && tried.insert(stat.process.key)
                {
                    is_new = true;
                    result = result.and(self.send_to(signal, &stat));
                }
            }
            if signal != Signal::KILL || !is_new || clock::now() >= deadline {
                return result;
            }
        }
    }

    fn send_to(&self, signal: Signal, stat: &Stat) -> Result<(), SysError> {
        let (process, pid) = (&stat.process, stat.process.key.pid);
        let sent = if stat.parent == self.ourselves && children::is_child(pid) {
            signals::send_to_child(pid, signal, None)
        } else {
            match self.hold(process) {
                Some(pidfd) => signals::send(pidfd.as_fd(), signal, None),
                None => return Ok(()),
            }
        };
        sent.map(|_| ()).map_err(|error| {
            SysError::new(format!("send {signal} to process {process}"), error.source)
        })
    }

    /// Holds a process and makes sure that what is held is still the one that was found.
    fn hold(&self, process: &Descendant) -> Option<OwnedFd> {
        let pidfd = signals::open_pidfd(process.key.pid)?;
        let stat = read_stat(process.key.pid)?;
        let is_same = stat.process.key == process.key && is_alive(&stat.process);
        (is_same && self.leads_to_us(stat.parent)).then_some(pidfd)
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

    /// Walks down /proc/PID/task/TID/children (proc(5)) or, where the kernel has no such file,
    /// through all of /proc. `settled` are children of ours that are passed over.
    fn walk(&self, settled: &BTreeSet<Pid>) -> Vec<Stat> {
        let mut seen = settled.clone();
        seen.insert(self.ourselves);
        seen.extend(self.left_out);
        let mut found = Vec::new();
        let mut open = self.roots();
        while let Some(pid) = open.pop() {
            if !seen.insert(pid) {
                continue;
            }
            let Some(stat) = read_stat(pid).or_else(|| self.hidden_child(pid)) else { continue };
            if !self.is_strange(&stat) {
                open.extend(proc::children(pid));
                found.push(stat);
            }
        }
        found
    }

    fn roots(&self) -> Vec<Pid> {
        children::list().or_else(|| self.scan()).unwrap_or_else(|| {
            if self.has_strangers {
                // What is not listed cannot be distinguished from strangers.
                return self.job.into_iter().collect();
            }
            children::probe(self.probed_from)
        })
    }

    /// A child of ours that lives and that /proc does not show.
    fn hidden_child(&self, pid: Pid) -> Option<Stat> {
        let key = ProcessKey { pid, start_ticks: 0 };
        let process = Descendant { key, name: HIDDEN.to_owned(), state: children::state(pid)? };
        Some(Stat { process, parent: self.ourselves })
    }

    /// Where there are strangers, what they leave behind comes to us like the job's orphans: then
    /// only a child with the mark is known to be the job's.
    fn is_strange(&self, stat: &Stat) -> bool {
        let pid = stat.process.key.pid;
        if !self.has_strangers || stat.parent != self.ourselves || Some(pid) == self.job {
            return self.strangers.contains(&stat.process.key);
        }
        self.is_stranger(pid) || self.kin(pid) != ChildKin::Job
    }

    fn kin(&self, child: Pid) -> ChildKin {
        match proc::environ(child) {
            Some(text) if text.split(|byte| *byte == 0).any(|one| one == self.mark.as_bytes()) => {
                ChildKin::Job
            }
            Some(text) if !text.is_empty() => ChildKin::Strange,
            _ => ChildKin::Unclear,
        }
    }

    /// Every process of the machine that leads to us.
    fn scan(&self) -> Option<Vec<Pid>> {
        let has_lists = fs::exists("/proc/thread-self/children").unwrap_or(true);
        if has_lists || !proc::is_usable() {
            return None;
        }
        let is_ours = |pid: &Pid| read_stat(*pid).is_some_and(|stat| self.leads_to_us(stat.parent));
        Some(proc::numbers_in("/proc")?.into_iter().filter(is_ours).collect())
    }
}

/// Of what `read_stat` found: there a process with running threads is not shown as a zombie.
fn is_alive(process: &Descendant) -> bool {
    !matches!(process.state, 'Z' | 'X')
}

/// Returns the command line of a process with blanks between its words, or its name in brackets;
/// `None` if it has gone.
#[must_use]
pub fn command_line(pid: Pid) -> Option<String> {
    /// More than a log line shows.
    const LONGEST: u64 = 2048;
    if !proc::is_usable() {
        return None;
    }
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

/// Returns whether some process has that pid, seen in /proc or not: kill(2) with signal 0 looks only.
#[must_use]
pub fn is_there(pid: Pid) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.0), None) != Err(nix::errno::Errno::ESRCH)
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

    #[test]
    fn our_parent_is_not_a_process_of_the_job() {
        let tree = Tree::new(false, String::new());
        let parent = Pid(nix::unistd::getppid().as_raw());
        assert!(tree.living().iter().all(|process| process.key.pid != parent));
        assert!(!tree.leads_to_us(parent));
    }
}

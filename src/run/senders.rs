//! Who sent a signal: names for the numbers in a siginfo.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::model::facts::Reach;
use crate::model::process::{Pid, SLURMSTEPD, Sender, SenderProcess};
use crate::model::signal::{Origin, Signal, SignalInfo};
use crate::model::time::Moment;
use crate::sys::reaper;
use crate::sys::signals::RawSignal;

/// Programs that signal one process of a job or all of them when they stop, suspend or cancel it.
const WHOLE_JOB_SENDERS: [&str; 1] = [SLURMSTEPD];

/// A pid is looked up again after this time: by then it may be another process. For a flood of
/// signals from one sender, and one that has gone before all of them were read, once is enough.
const LOOK_UP_AGAIN: Duration = Duration::from_millis(100);

/// The longest way up to a batch system that is followed.
const ANCESTORS_MAX: usize = 64;

/// Looks up senders; the names of users stay.
pub(super) struct Senders {
    ourselves: i32,
    users: BTreeMap<u32, Option<String>>,
    batch: BTreeMap<i32, Looked>,
    batch_began: Moment,
}

/// What was found about one pid in this batch.
#[derive(Clone)]
struct Looked {
    command: Option<String>,
    is_hidden: bool,
    whole_job: Option<&'static str>,
    is_of_job: bool,
}

/// What is known of the job when a signal comes.
pub(super) trait Surroundings {
    /// Returns whether it is in our process group.
    fn is_in_our_group(&self) -> bool;
    /// Returns whether that process is one of its own.
    fn contains(&self, pid: Pid) -> bool;
    /// Returns whether it will be known which signals reached all processes.
    fn can_know_reach(&self) -> bool;
}

/// A run without a job.
pub(super) struct NoJob;

impl Surroundings for NoJob {
    fn is_in_our_group(&self) -> bool {
        false
    }

    fn contains(&self, _: Pid) -> bool {
        false
    }

    fn can_know_reach(&self) -> bool {
        false
    }
}

impl Senders {
    pub(super) fn new() -> Senders {
        Senders {
            ourselves: nix::unistd::getpid().as_raw(),
            users: BTreeMap::new(),
            batch: BTreeMap::new(),
            batch_began: Moment(Duration::ZERO),
        }
    }

    /// Forgets the pids that were looked up a while ago.
    pub(super) fn begin_batch(&mut self, now: Moment) {
        if now - self.batch_began > LOOK_UP_AGAIN {
            self.batch.clear();
            self.batch_began = now;
        }
    }

    /// Returns whether we caused that signal ourselves, by a write to a pipe that nobody reads or
    /// beyond a limit: the write's failure is logged, and one more line would only cause it again.
    pub(super) fn is_our_fault(&self, raw: &RawSignal) -> bool {
        raw.pid == self.ourselves && matches!(raw.signal, Signal::PIPE | Signal::XFSZ)
    }

    /// Names a sender, and says which processes its signal reached.
    pub(super) fn resolve(
        &mut self,
        raw: RawSignal,
        job: &impl Surroundings,
    ) -> (SignalInfo, Reach) {
        let is_from_process = matches!(raw.origin, Origin::Kill | Origin::Queue | Origin::Thread);
        let (sender, reach) = if !is_from_process {
            // Alarms, limits and descriptors are one process's own.
            let is_shared = raw.signal.is_of_terminal() && job.is_in_our_group();
            (Sender::Kernel, if is_shared { Reach::WholeGroup } else { Reach::OnlyUs })
        } else if raw.pid <= 0 {
            (Sender::OutsideNamespace, Reach::OnlyUs)
        } else {
            self.process(raw, job)
        };
        let RawSignal { signal, origin, value, .. } = raw;
        (SignalInfo { signal, origin, sender, value }, reach)
    }

    fn process(&mut self, raw: RawSignal, job: &impl Surroundings) -> (Sender, Reach) {
        let pid = Pid(raw.pid);
        let looked = self.batch.entry(raw.pid).or_insert_with(|| look_up(pid, job)).clone();
        let sender = Sender::Process(SenderProcess {
            pid,
            uid: raw.uid,
            user: self.user(raw.uid),
            command: looked.command,
            is_hidden: looked.is_hidden,
        });
        let reach = match looked.whole_job {
            // sigqueue(3) can name anybody as its sender: nobody keeps a signal from the job so.
            _ if raw.origin == Origin::Queue => Reach::OnlyUs,
            _ if raw.pid == self.ourselves => Reach::OurFault,
            _ if looked.is_of_job => Reach::FromJob { is_in_group: job.is_in_our_group() },
            // Where nothing would report which processes it reached, better twice than never.
            Some(name) if job.can_know_reach() => Reach::Unclear(name),
            _ => Reach::OnlyUs,
        };
        (sender, reach)
    }

    fn user(&mut self, uid: u32) -> Option<String> {
        self.users.entry(uid).or_insert_with(|| user_name(uid)).clone()
    }
}

fn look_up(pid: Pid, job: &impl Surroundings) -> Looked {
    let name = reaper::name(pid);
    let whole_job = WHOLE_JOB_SENDERS.into_iter().find(|known| name.as_deref() == Some(known));
    let is_of_job = whole_job.is_none() && job.contains(pid);
    let command = reaper::command_line(pid);
    let is_hidden = command.is_none() && reaper::is_there(pid);
    Looked { command, is_hidden, whole_job, is_of_job }
}

/// Returns whether one of our ancestors is such a program.
pub(super) fn has_whole_job_sender_above() -> bool {
    let mut ancestor = nix::unistd::getppid().as_raw();
    for _ in 0..ANCESTORS_MAX {
        if ancestor <= 1 {
            return false;
        }
        if reaper::name(Pid(ancestor)).is_some_and(|name| WHOLE_JOB_SENDERS.contains(&&*name)) {
            return true;
        }
        match reaper::parent(Pid(ancestor)) {
            Some(parent) => ancestor = parent.0,
            None => return false,
        }
    }
    false
}

/// Returns the name of a user from /etc/passwd (passwd(5)). Users that only a directory service
/// knows keep their number: asking one could take for ever.
pub(super) fn user_name(uid: u32) -> Option<String> {
    let text = fs::read(PASSWD).ok()?;
    name_in(&String::from_utf8_lossy(&text), uid)
}

const PASSWD: &str = "/etc/passwd";

fn name_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        (number == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(origin: Origin, pid: i32) -> RawSignal {
        RawSignal { signal: Signal::TERM, origin, pid, uid: 0, value: None }
    }

    #[test]
    fn users_are_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nmia:x:1001:1001::/home/mia:/bin/sh\n";
        assert_eq!(name_in(passwd, 1001), Some("mia".into()));
        assert_eq!(name_in(passwd, 0), Some("root".into()));
        assert_eq!(name_in(passwd, 7), None);
    }

    /// A job in our group or not, with the processes that are named.
    #[derive(Default)]
    struct Job {
        is_in_our_group: bool,
        processes: Vec<Pid>,
        can_know_reach: bool,
    }

    impl Surroundings for Job {
        fn is_in_our_group(&self) -> bool {
            self.is_in_our_group
        }

        fn contains(&self, pid: Pid) -> bool {
            self.processes.contains(&pid)
        }

        fn can_know_reach(&self) -> bool {
            self.can_know_reach
        }
    }

    #[test]
    fn the_kernel_reaches_the_whole_group_or_only_us() {
        let mut senders = Senders::new();
        for (is_in_our_group, reach) in [(true, Reach::WholeGroup), (false, Reach::OnlyUs)] {
            let job = Job { is_in_our_group, ..Job::default() };
            let interrupt = RawSignal { signal: Signal::INT, ..raw(Origin::Kernel, 0) };
            let (info, found) = senders.resolve(interrupt, &job);
            assert_eq!((info.sender, found), (Sender::Kernel, reach));
        }
    }

    #[test]
    fn only_what_a_terminal_sends_is_taken_as_sent_to_the_group() {
        let job = Job { is_in_our_group: true, ..Job::default() };
        let shared: Vec<Signal> = Signal::trappable()
            .filter(|signal| {
                let raw = RawSignal { signal: *signal, ..raw(Origin::Kernel, 0) };
                Senders::new().resolve(raw, &job).1 == Reach::WholeGroup
            })
            .collect();
        let names = ["HUP", "INT", "QUIT", "CONT", "TSTP", "TTIN", "TTOU", "WINCH"];
        assert_eq!(shared, names.map(|name| name.parse::<Signal>().expect("a signal")));
    }

    #[test]
    fn pid_zero_of_a_process_is_outside_our_namespace() {
        let (info, reach) = Senders::new().resolve(raw(Origin::Kill, 0), &Job::default());
        assert_eq!((info.sender, reach), (Sender::OutsideNamespace, Reach::OnlyUs));
    }

    #[test]
    fn a_signal_that_we_caused_ourselves_is_not_for_the_job() {
        let own = nix::unistd::getpid().as_raw();
        let (_, reach) = Senders::new().resolve(raw(Origin::Kill, own), &Job::default());
        assert_eq!(reach, Reach::OurFault);
    }

    #[test]
    fn a_process_of_the_job_is_known_unless_its_name_could_be_forged() {
        let parent = nix::unistd::getppid().as_raw();
        for is_in_our_group in [true, false] {
            let job = Job { is_in_our_group, processes: vec![Pid(parent)], can_know_reach: true };
            let (_, reach) = Senders::new().resolve(raw(Origin::Kill, parent), &job);
            assert_eq!(reach, Reach::FromJob { is_in_group: is_in_our_group });
            let (_, reach) = Senders::new().resolve(raw(Origin::Queue, parent), &job);
            assert_eq!(reach, Reach::OnlyUs);
        }
    }
}

//! Who sent a signal: names for the numbers in a siginfo.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::model::facts::Reach;
use crate::model::process::{Pid, Sender, SenderProcess};
use crate::model::signal::{Origin, Signal, SignalInfo};
use crate::model::time::Moment;
use crate::sys::reaper;
use crate::sys::signals::RawSignal;

/// Programs that signal every process of a job themselves when they stop, suspend or cancel it.
const WHOLE_JOB_SENDERS: [&str; 1] = ["slurmstepd"];

/// A pid is looked up again after so long: by then it may be another process. For a flood of
/// signals from one sender, and one that has gone before all of them were read, once is enough.
const LOOK_UP_AGAIN: Duration = Duration::from_millis(100);

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
    /// beyond a limit: the write's failure is told, and one more line would only cause it again.
    pub(super) fn is_our_fault(&self, raw: &RawSignal) -> bool {
        raw.pid == self.ourselves && matches!(raw.signal, Signal::PIPE | Signal::XFSZ)
    }

    /// Names a sender, and says whom its signal reached. `is_in_group` tells whether the job is
    /// in our process group.
    pub(super) fn resolve(
        &mut self,
        raw: RawSignal,
        is_in_group: impl FnOnce() -> bool,
    ) -> (SignalInfo, Reach) {
        let is_from_process = matches!(raw.origin, Origin::Kill | Origin::Queue | Origin::Thread);
        let (sender, reach) = if !is_from_process {
            let reach = if is_in_group() { Reach::WholeGroup } else { Reach::OnlyUs };
            (Sender::Kernel, reach)
        } else if raw.pid <= 0 {
            (Sender::OutsideNamespace, Reach::OnlyUs)
        } else {
            self.process(raw)
        };
        let RawSignal { signal, origin, value, .. } = raw;
        (SignalInfo { signal, origin, sender, value }, reach)
    }

    fn process(&mut self, raw: RawSignal) -> (Sender, Reach) {
        let looked = self.batch.entry(raw.pid).or_insert_with(|| look_up(Pid(raw.pid))).clone();
        let sender = Sender::Process(SenderProcess {
            pid: Pid(raw.pid),
            uid: raw.uid,
            user: self.user(raw.uid),
            command: looked.command,
            is_hidden: looked.is_hidden,
        });
        let reach = match looked.whole_job {
            // sigqueue(3) can name anybody as its sender: nobody keeps a signal from the job so.
            _ if raw.origin == Origin::Queue => Reach::OnlyUs,
            _ if raw.pid == self.ourselves => Reach::OurFault,
            Some(name) => Reach::WholeJob(name),
            None => Reach::OnlyUs,
        };
        (sender, reach)
    }

    fn user(&mut self, uid: u32) -> Option<String> {
        self.users.entry(uid).or_insert_with(|| user_name(uid)).clone()
    }
}

fn look_up(pid: Pid) -> Looked {
    let name = reaper::name(pid);
    let whole_job = WHOLE_JOB_SENDERS.into_iter().find(|known| name.as_deref() == Some(known));
    let command = reaper::command_line(pid);
    let is_hidden = command.is_none() && reaper::is_there(pid);
    Looked { command, is_hidden, whole_job }
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

    #[test]
    fn the_kernel_reaches_the_whole_group_or_only_us() {
        let mut senders = Senders::new();
        for (in_group, reach) in [(true, Reach::WholeGroup), (false, Reach::OnlyUs)] {
            let (info, found) = senders.resolve(raw(Origin::Kernel, 0), || in_group);
            assert_eq!((info.sender, found), (Sender::Kernel, reach));
        }
    }

    #[test]
    fn pid_zero_of_a_process_is_outside_our_namespace() {
        let (info, reach) = Senders::new().resolve(raw(Origin::Kill, 0), || true);
        assert_eq!((info.sender, reach), (Sender::OutsideNamespace, Reach::OnlyUs));
    }

    #[test]
    fn a_signal_that_we_caused_ourselves_is_not_for_the_job() {
        let own = nix::unistd::getpid().as_raw();
        let (_, reach) = Senders::new().resolve(raw(Origin::Kill, own), || true);
        assert_eq!(reach, Reach::OurFault);
    }
}

//! `nanny stacks`: where the processes of a running job wait. The supervisor is asked, for it is the job's
//! ancestor and may look where others may not (Yama in ptrace(2)); where there is none, we look ourselves.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::geteuid;

use crate::model::process::Pid;
use crate::nanny::failure::{Failure, NOTHING};
use crate::nanny::notes::note;
use crate::nanny::source::presence::ThisHost;
use crate::observe::stacks::StackPlan;
use crate::sys::{clock, local_socket};

/// A supervisor that does not answer within this time is stopped, or hangs.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Nobody waits for us but a user.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// A report has at most a thousand lines.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Whose stacks are meant.
struct Found {
    run: Option<String>,
    /// Processes of the run, or the one that was named.
    pids: Vec<i32>,
}

pub fn answer(target: &str, out: &mut dyn Write) -> Result<u8, Failure> {
    let here = ThisHost::look();
    let found = match target.parse::<i32>() {
        Ok(pid) => of_pid(&here, pid)?,
        Err(_) => of_run(&here, target)?,
    };
    let Some(found) = found else { return Ok(NOTHING) };
    if let Some(run) = &found.run {
        match ask(&here, run, &found.pids) {
            Ok(text) if !text.is_empty() => {
                out.write_all(&text)?;
                return Ok(0);
            }
            Ok(_) => {
                return Err(Failure::Refused(format!(
                    "the childminder of run {run} gave no answer"
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                return Err(Failure::Refused(format!(
                    "the childminder of run {run} does not answer within {} s: it may be stopped",
                    ANSWER_MAX.as_secs()
                )));
            }
            Err(error) => {
                return Err(Failure::Refused(format!("ask the childminder of run {run}: {error}")));
            }
        }
        note(&format!("no childminder answers for run {run}: its processes are read from here"));
    }
    look(&here, &found.pids, out)
}

/// Without a supervisor that answers.
fn look(here: &ThisHost, pids: &[i32], out: &mut dyn Write) -> Result<u8, Failure> {
    let all: BTreeSet<i32> = pids.iter().copied().collect();
    let is_top = |pid: &&i32| here.parent(**pid).is_none_or(|parent| !all.contains(&parent));
    for pid in all.iter().filter(is_top) {
        let plan = StackPlan {
            root: PathBuf::from("/proc"),
            above: Pid(*pid),
            with_above: true,
            left_out: Vec::new(),
            until: clock::now() + LOOK_MAX,
            now: clock::now,
        };
        for line in plan.look() {
            writeln!(out, "{line}")?;
        }
    }
    Ok(0)
}

fn of_pid(here: &ThisHost, pid: i32) -> Result<Option<Found>, Failure> {
    if here.parent(pid).is_none() {
        note(&format!("there is no process {pid}"));
        return Ok(None);
    }
    let run = here.run_of(pid);
    let run = run.map(|run| String::from_utf8_lossy(&run).into_owned());
    Ok(Some(Found { run, pids: vec![pid] }))
}

fn of_run(here: &ThisHost, wanted: &str) -> Result<Option<Found>, Failure> {
    let wanted = wanted.trim().to_ascii_lowercase();
    let mut found = here.runs_like(&wanted);
    let Some((run, pids)) = found.pop() else {
        note(&format!("no process of a run with an id like '{wanted}' is here"));
        return Ok(None);
    };
    if !found.is_empty() {
        let count = found.len() + 1;
        return Err(Failure::Refused(format!("'{wanted}' fits {count} runs that go on")));
    }
    Ok(Some(Found { run: Some(String::from_utf8_lossy(&run).into_owned()), pids }))
}

/// Returns what the supervisor of a run says.
fn ask(here: &ThisHost, run: &str, pids: &[i32]) -> io::Result<Vec<u8>> {
    let stream: UnixStream = local_socket::connect(&local_socket::name_of_stacks(run))?;
    let peer = local_socket::peer(&stream)?;
    // Anybody may have taken the name.
    let ours = geteuid().as_raw();
    let is_of_job = |pid: &i32| here.real_uid(*pid) == Some(peer.uid);
    if peer.uid != 0 && peer.uid != ours && !(ours == 0 && pids.iter().any(is_of_job)) {
        let text = format!("process {} of user {} answers in its place", peer.pid, peer.uid);
        return Err(io::Error::other(text));
    }
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let mut text = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

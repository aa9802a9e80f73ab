//! Floods of signals: everything that reached us is logged, in whole lines, and we live on.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Fallible;
use crate::harness::log::Log;
use crate::harness::process::{self, Running, has_pending_signals, wait_until};
use crate::harness::report::{Line, met};
use crate::harness::statistics::{median, paired_ratio};
use crate::harness::workshop::Workshop;

pub const TITLE: &str =
    "10,000 queued signals, and 100,000 by kill(2) at full speed, which coalesce in the kernel";

const QUEUED: usize = 10_000;
const FLOOD: usize = 100_000;
const ROUNDS: usize = 9;

const REAL_TIME: &str = "40";
/// Those that a wrapper may expect: no stop, no fault.
const COMMON: &str = "1,2,3,4,5,10,11,12,15,16,23,24,25,28";
/// All standard ones but SIGKILL, SIGSTOP and SIGCHLD: SIGBUS, SIGSEGV and SIGTSTP among them.
const ALL: &str = "1,2,3,4,5,6,7,8,10,11,12,13,14,15,16,18,20,21,22,23,24,25,26,27,28,29,30,31";

/// Lines recorded, in x a signalfd reader with one write(2) for each.
const BUDGET: f64 = 0.8;

const SEND_WITHIN: Duration = Duration::from_secs(30);
const END_WITHIN: Duration = Duration::from_secs(5);

pub fn run(workshop: &Workshop) -> Fallible<Vec<Line>> {
    let mut lines = vec![queued_logged(workshop)?, queued_forwarded(workshop)?];
    lines.extend(flood_against_reference(workshop)?);
    lines.push(flood_of_all(workshop)?);
    lines.push(flood_forwarded(workshop)?);
    Ok(lines)
}

fn queued_logged(workshop: &Workshop) -> Fallible<Line> {
    let log = Minded::start(workshop, Job::Sleep)?
        .under(&flood("queue", QUEUED, REAL_TIME), workshop)?
        .log;
    let line = Line::new("queued, --forward none", format!("{} logged", log.values().len()));
    Ok(line.verdict("all, in order", met(is_in_order(&log) && log.fault().is_none())))
}

fn queued_forwarded(workshop: &Workshop) -> Fallible<Line> {
    let after = Minded::start(workshop, Job::Receiver)?
        .under(&flood("queue", QUEUED, REAL_TIME), workshop)?;
    let (log, passed) = (after.log, after.passed);
    let measured = format!("{} logged, {} passed on", log.values().len(), passed.total);
    let is_complete = passed.total == QUEUED as u64 && passed.order_breaks == 0;
    let is_met = is_complete && is_in_order(&log) && log.fault().is_none();
    Ok(Line::new("queued, forwarded", measured).verdict("all, in order", met(is_met)))
}

fn is_in_order(log: &Log) -> bool {
    log.values().into_iter().eq(0..QUEUED as i32)
}

fn flood_against_reference(workshop: &Workshop) -> Fallible<Vec<Line>> {
    let (mut ours, mut references) = (Vec::new(), Vec::new());
    let mut fault = None;
    for _ in 0..ROUNDS {
        references.push(reference_records(workshop)? as f64);
        let log = Minded::start(workshop, Job::Sleep)?
            .under(&flood("kill", FLOOD, COMMON), workshop)?
            .log;
        ours.push(log.received() as f64);
        fault = fault.or(log.fault());
    }
    let ratio = paired_ratio(&ours, &references);
    let line = |name, counts: &[f64]| Line::new(name, format!("{:.0} recorded", median(counts)));
    let mine = line("flood of 14, --forward none", &ours).ratio(Some(ratio), "log1");
    Ok(vec![
        line("flood of 14, sigrecv log1", &references),
        match fault {
            None => mine.at_least(BUDGET, Some(ratio), "x log1"),
            Some(fault) => mine.verdict(fault, met(false)),
        },
    ])
}

fn flood_of_all(workshop: &Workshop) -> Fallible<Line> {
    let log = Minded::start(workshop, Job::Sleep)?.under(&flood("kill", FLOOD, ALL), workshop)?.log;
    Ok(alive(
        Line::new("flood of 28, --forward none", format!("{} recorded", log.received())),
        &log,
    ))
}

fn flood_forwarded(workshop: &Workshop) -> Fallible<Line> {
    let after =
        Minded::start(workshop, Job::Receiver)?.under(&flood("kill", FLOOD, COMMON), workshop)?;
    let measured = format!("{} recorded, {} passed on", after.log.received(), after.passed.total);
    Ok(alive(Line::new("flood of 14, forwarded", measured), &after.log))
}

fn alive(line: Line, log: &Log) -> Line {
    match log.fault() {
        None => line.verdict("alive, lines whole", met(true)),
        Some(fault) => line.verdict(fault, met(false)),
    }
}

/// The arguments of sigflood, without the pid.
struct Flood {
    call: &'static str,
    count: usize,
    signals: &'static str,
}

fn flood(call: &'static str, count: usize, signals: &'static str) -> Flood {
    Flood { call, count, signals }
}

impl Flood {
    fn send(&self, workshop: &Workshop, place: &Path, pid: i32) -> Fallible<()> {
        let mut sender = process::command(workshop.c_program("sigflood")?, place);
        sender.args([self.call, &pid.to_string(), &self.count.to_string(), self.signals]);
        let (sent, _) = process::output(&mut sender, SEND_WITHIN)?;
        if sent.trim() == self.count.to_string() {
            Ok(())
        } else {
            Err(format!("only {} of {} signals could be sent", sent.trim(), self.count).into())
        }
    }
}

/// What a childminder under fire does with the signals.
enum Job {
    /// Logs them: `--forward none sleep`.
    Sleep,
    /// Also passes them on to a job that counts them.
    Receiver,
}

/// A childminder with a job that will not end by itself soon.
struct Minded {
    running: Running,
    job: i32,
    place: PathBuf,
}

/// What was left of it.
struct Aftermath {
    log: Log,
    passed: Counts,
}

impl Minded {
    fn start(workshop: &Workshop, job: Job) -> Fallible<Minded> {
        let place = workshop.place("signals")?;
        let mut command = process::command(workshop.childminder(), &place);
        let name = match job {
            Job::Sleep => {
                command.args(["--forward", "none", "/bin/sleep", "120"]);
                "sleep"
            }
            Job::Receiver => {
                command.arg(workshop.c_program("sigrecv")?).args(["count", "counts"]);
                "sigrecv"
            }
        };
        let running = Running::start(&mut command)?;
        let job = running.await_child(name)?;
        if matches!(command.get_args().last(), Some(word) if word == "counts") {
            wait_until("the job is ready", || counts(&place).pid == job as u64)?;
        }
        Ok(Minded { running, job, place })
    }

    /// Sends the flood, waits until it has run off, and ends the job: childminder must notice.
    fn under(mut self, flood: &Flood, workshop: &Workshop) -> Fallible<Aftermath> {
        let pid = self.running.pid();
        flood.send(workshop, &self.place, pid)?;
        wait_until("no signal is pending", || !has_pending_signals(pid))?;
        // What was read last is being logged and passed on: a second look, at rest.
        self.await_rest()?;
        process::end(self.job);
        let status = self.running.wait(END_WITHIN)?;
        if status.code() != Some(137) {
            let signal = status.signal();
            return Err(
                format!("childminder ended with {status} (signal {signal:?}), not 137").into()
            );
        }
        Ok(Aftermath { log: Log::read(&self.place)?, passed: counts(&self.place) })
    }

    /// Waits until both have slept for three looks.
    fn await_rest(&self) -> Fallible<()> {
        let used = || [self.running.pid(), self.job].map(run_time);
        let (mut last, mut rests) = (used(), 0);
        wait_until("all signals are logged", || {
            let now = used();
            rests = if now == last { rests + 1 } else { 0 };
            last = now;
            rests >= 3
        })
    }
}

/// The nanoseconds that a process has run (its first field, proc(5)).
fn run_time(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// How many signals the reference recorded, one write(2) for each.
fn reference_records(workshop: &Workshop) -> Fallible<u64> {
    let place = workshop.place("signals")?;
    let mut command = process::command(workshop.c_program("sigrecv")?, &place);
    let running = Running::start(command.args(["log1", "counts", "log1.txt"]))?;
    let pid = running.pid();
    wait_until("sigrecv is ready", || counts(&place).pid == pid as u64)?;
    flood("kill", FLOOD, COMMON).send(workshop, &place, pid)?;
    wait_until("no signal is pending", || !has_pending_signals(pid))?;
    Ok(counts(&place).total)
}

/// What sigrecv shares with us, see there.
#[derive(Default)]
struct Counts {
    pid: u64,
    total: u64,
    order_breaks: u64,
}

/// All zero before sigrecv made the file.
fn counts(place: &Path) -> Counts {
    let bytes = fs::read(place.join("counts")).unwrap_or_default();
    let mut numbers = bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes));
    let mut next = || numbers.next().unwrap_or(0);
    Counts { pid: next(), total: next(), order_breaks: next() }
}

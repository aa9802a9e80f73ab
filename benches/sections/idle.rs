//! Memory and wake-ups while the job sleeps.

use std::fs;
use std::time::Duration;

use crate::Fallible;
use crate::harness::process::{self, Running, field};
use crate::harness::report::{Line, met};
use crate::harness::workshop::{Kind, Workshop, Wrapper};

pub const TITLE: &str =
    "memory and wake-ups (voluntary switches of all threads) over 10 s of `sleep`";

const WINDOW: Duration = Duration::from_secs(10);
/// Until every wrapper waits.
const SETTLE: Duration = Duration::from_secs(1);
const JOB: [&str; 2] = ["/bin/sleep", "60"];

const RSS_KIB_BUDGET: f64 = 2560.0;
const DIRTY_KIB_BUDGET: f64 = 409.6;
const MUSL_DIRTY_KIB_AIM: f64 = 80.0;

struct Idler {
    wrapper: Wrapper,
    running: Running,
    job: i32,
}

pub fn run(workshop: &Workshop) -> Fallible<Vec<Line>> {
    let mut wrappers = workshop.references()?;
    wrappers.extend(workshop.peers());
    wrappers.extend(workshop.ours(&[]));
    wrappers.extend(workshop.ours(&["--sample", "0"]));
    let place = workshop.place("idle")?;
    let start = |wrapper: Wrapper| {
        let words = wrapper.around(&JOB.map(Into::into));
        let running = Running::start(process::command(&words[0], &place).args(&words[1..]))?;
        let job = running.await_child("sleep")?;
        Ok(Idler { wrapper, running, job })
    };
    let idlers = wrappers.into_iter().map(start).collect::<Fallible<Vec<Idler>>>()?;
    // The measure is what happens while nothing happens, so this waits for time itself.
    std::thread::sleep(SETTLE);
    let before: Vec<u64> = idlers.iter().map(|idler| switches(idler.running.pid())).collect();
    std::thread::sleep(WINDOW);
    // All are read before the first one is ended: a death by signal wakes those that look out for it.
    let after: Vec<u64> = idlers.iter().map(|idler| switches(idler.running.pid())).collect();
    let mut lines = Vec::new();
    for (idler, (before, after)) in idlers.into_iter().zip(before.into_iter().zip(after)) {
        lines.extend(measure(idler, after - before)?);
    }
    Ok(lines)
}

fn measure(idler: Idler, wake_ups: u64) -> Fallible<Vec<Line>> {
    let pid = idler.running.pid();
    let memory = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let (rss, dirty) = (field(&memory, "Rss") as f64, field(&memory, "Private_Dirty") as f64);
    // The job first: a wrapper that is killed would leave it behind.
    process::end(idler.job);
    let name = &idler.wrapper.name;
    let all = format!("{rss} KiB, {dirty} KiB dirty, {wake_ups} wake-ups");
    if idler.wrapper.kind == Kind::Other {
        return Ok(vec![Line::new(name, all)]);
    }
    let is_musl = idler.wrapper.kind == Kind::OursMusl;
    let dirty_line = Line::new(name, format!("{dirty} KiB private dirty"));
    Ok(vec![
        Line::new(name, format!("{rss} KiB RSS")).at_most(RSS_KIB_BUDGET, Some(rss), "KiB"),
        if is_musl {
            dirty_line.at_most(MUSL_DIRTY_KIB_AIM, Some(dirty), "KiB").aim()
        } else {
            dirty_line.at_most(DIRTY_KIB_BUDGET, Some(dirty), "KiB")
        },
        wake_line(name, wake_ups),
    ])
}

/// By default one sample a second; the window may hold the first or the last of one more.
fn wake_line(name: &str, wake_ups: u64) -> Line {
    let line = Line::new(name, format!("{wake_ups} wake-ups"));
    if name.contains("--sample 0") {
        line.verdict("none", met(wake_ups == 0))
    } else {
        let samples = WINDOW.as_secs() + 1;
        line.verdict("one a sample", met(wake_ups <= samples))
    }
}

/// How often the threads of a process went to sleep by themselves, and so were woken.
fn switches(pid: i32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let statuses = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    statuses.map(|status| field(&status, "voluntary_ctxt_switches")).sum()
}

//! The stall report: where each process of a running tree waits, with the native and the Python frames of its threads.
//!
//! Nothing is stopped and no system call of the job is interrupted: a thread that sleeps lies still, and
//! what it waits in is read from /proc. What ran meanwhile is marked. Bounded in time, processes, threads
//! and lines; done on a short-lived thread of the supervisor, which is the job's ancestor, so that Yama
//! lets it look (ptrace_scope 1).

mod thread;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::proc_stat;
use crate::model::process::Pid;
use crate::model::text::plural;
use crate::model::time::Moment;
use crate::observe::image::{Image, python_lines, read_bounded};
use crate::observe::stacks::thread::ThreadState;
use crate::trace::module::Modules;
use crate::trace::python::{self, PythonStacks, PythonUnknown};
use crate::trace::report;
use crate::trace::unwind::Stack;

/// What is reported at most: more helps nobody, and the log would grow.
const PROCESSES_MAX: usize = 64;
const THREADS_MAX: usize = 128;
const LINES_MAX: usize = 1000;
const NATIVE_MAX: usize = 24;

/// A command line is shown to this many bytes.
const COMMAND_BYTES_MAX: usize = 120;

/// Which processes are looked at, and how long.
pub struct StackPlan {
    /// Where the proc file system is: `/proc`.
    pub root: PathBuf,
    /// The process whose tree it is.
    pub above: Pid,
    /// Whether that process is looked at, too.
    pub with_above: bool,
    /// Processes that are left out with all that they started.
    pub left_out: Vec<Pid>,
    /// What is not looked at until then is left out.
    pub until: Moment,
    /// CLOCK_MONOTONIC.
    pub now: fn() -> Moment,
}

impl StackPlan {
    /// Looks at the tree, parents before their children; returns the lines of the report.
    #[must_use]
    pub fn look(&self) -> Vec<String> {
        let began = (self.now)();
        let pids = self.tree();
        let mut lines = Vec::new();
        let mut seen = 0;
        for pid in pids.iter().take(PROCESSES_MAX) {
            if (self.now)() >= self.until || lines.len() >= LINES_MAX {
                break;
            }
            seen += 1;
            lines.extend(self.process(*pid));
        }
        let left = pids.len() - seen + lines.len().saturating_sub(LINES_MAX);
        lines.truncate(LINES_MAX);
        if left > 0 {
            let processes = pids.len() - seen;
            lines.push(format!(
                "{processes} more process{} and {} more lines are left out",
                if processes == 1 { "" } else { "es" },
                left - processes
            ));
        }
        let lasted = ((self.now)() - began).as_micros();
        let (whole, part) = (lasted / 1000, lasted % 1000 / 100);
        let es = if seen == 1 { "" } else { "es" };
        lines.insert(0, format!("stacks of {seen} process{es}, read in {whole}.{part} ms"));
        lines
    }

    /// Returns the processes of the tree: breadth first, so parents before their children.
    fn tree(&self) -> Vec<Pid> {
        let mut children: BTreeMap<Pid, Vec<Pid>> = BTreeMap::new();
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid));
        for pid in pids {
            if let Some((parent, _)) = self.parent(pid) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut found = vec![self.above];
        let mut next = 0;
        while let Some(pid) = found.get(next) {
            next += 1;
            let below = children.remove(pid).unwrap_or_default();
            found.extend(below.into_iter().filter(|pid| !self.left_out.contains(pid)));
        }
        found.drain(..usize::from(!self.with_above));
        found
    }

    fn parent(&self, pid: Pid) -> Option<(Pid, u8)> {
        let text = fs::read(self.root.join(format!("{pid}/stat"))).ok()?;
        proc_stat::parse(&text).map(|stat| (stat.parent, stat.state))
    }

    fn process(&self, pid: Pid) -> Vec<String> {
        let place = self.root.join(pid.to_string());
        let command = command(&place);
        let mut lines = Vec::new();
        match self.parent(pid) {
            None => return lines,
            Some((_, b'Z' | b'X')) => {
                lines.push(format!(
                    "process {pid} ({command}): it has ended; its parent has not waited for it"
                ));
                return lines;
            }
            Some(_) => {}
        }
        let tids = tids(&place);
        let before = switches(&place, &tids);
        let mut threads: Vec<ThreadState> = tids
            .iter()
            .take(THREADS_MAX)
            .filter_map(|tid| ThreadState::read(&place, *tid))
            .collect();
        let image = Image::open(&place);
        let native: Vec<Vec<String>> = match &image {
            Some(image) => self.native(image, &threads),
            None => Vec::new(),
        };
        let in_namespace = namespace_tids(&place, &tids);
        let is_thread = |tid| in_namespace.values().any(|inner| *inner == tid);
        let python = image
            .as_ref()
            .and_then(|image| Some((image.interpreter()?, &image.memory)))
            .map(|(interpreter, memory)| python::stacks(&interpreter, memory, &is_thread));
        let after = switches(&place, &tids);
        lines.push(heading(pid, &command, tids.len(), python.as_ref()));
        if image.is_none() {
            lines.push(
                "  its memory and its system calls cannot be read: it belongs to another user, gave \
                 up the right (PR_SET_DUMPABLE) or is protected (Yama)"
                    .to_owned(),
            );
        }
        let mut native = native.into_iter();
        for thread in &mut threads {
            thread.has_moved =
                before.get(&thread.tid) != after.get(&thread.tid) || thread.is_running();
            lines.push(thread.to_string());
            lines.extend(native.next().into_iter().flatten());
            let known = in_namespace.get(&thread.tid);
            if let Some(Ok(stacks)) = &python {
                let frames = python_lines(stacks, known.copied());
                lines.extend(frames.iter().map(|line| format!("    {line}")));
            }
        }
        if let Some(more @ 1..) = tids.len().checked_sub(threads.len()) {
            lines.push(format!("  {more} more thread{}", plural(more as u64)));
        }
        if image.as_ref().is_some_and(Image::is_java) {
            lines.push(java_line(&place, pid));
        }
        lines
    }

    /// Returns the frames of each thread that does not run.
    fn native(&self, image: &Image, threads: &[ThreadState]) -> Vec<Vec<String>> {
        let mut modules = Modules::new(&image.maps, &image.files);
        let has_time = || (self.now)() < self.until;
        let stack = Stack { maps: &image.maps, memory: &image.memory, has_time: &has_time };
        let mut frames = |thread: &ThreadState| {
            let registers = thread.registers.filter(|_| has_time())?;
            let trace = stack.backtrace(&registers, &mut modules);
            let shown = report::shown(&trace, &modules);
            let lines = shown.iter().take(NATIVE_MAX).map(|(_, frame)| format!("    {frame}"));
            Some(lines.collect())
        };
        threads.iter().map(|thread| frames(thread).unwrap_or_default()).collect()
    }
}

fn heading(
    pid: Pid,
    command: &str,
    threads: usize,
    python: Option<&Result<PythonStacks, PythonUnknown>>,
) -> String {
    let python = match python {
        None => String::new(),
        Some(Ok(stacks)) => format!(", CPython {}", stacks.version),
        Some(Err(PythonUnknown::Version(version))) => {
            format!(", CPython {version}: the frames of this version are not known")
        }
        Some(Err(PythonUnknown::Unreadable)) => ", CPython whose frames cannot be read".to_owned(),
    };
    format!("process {pid} ({command}): {threads} thread{}{python}", plural(threads as u64))
}

/// A JVM that crashes writes a report of its own; one that hangs prints its stacks when asked.
fn java_line(place: &Path, pid: Pid) -> String {
    let report = format!("hs_err_pid{pid}.log");
    match fs::read_link(place.join("cwd")) {
        Ok(directory) if place.join("cwd").join(&report).exists() => {
            format!("  Java: its crash report is {}", directory.join(report).display())
        }
        _ => format!("  Java: 'jcmd {pid} Thread.print' prints the frames of its threads"),
    }
}

fn command(place: &Path) -> String {
    let raw = read_bounded(&place.join("cmdline"), COMMAND_BYTES_MAX + 1).unwrap_or_default();
    let text = String::from_utf8_lossy(raw.strip_suffix(b"\0").unwrap_or(&raw)).replace('\0', " ");
    if text.is_empty() {
        return fs::read_to_string(place.join("comm")).unwrap_or_default().trim_end().to_owned();
    }
    if raw.len() > COMMAND_BYTES_MAX { format!("{text}...") } else { text }
}

fn tids(place: &Path) -> Vec<i32> {
    let entries = fs::read_dir(place.join("task")).into_iter().flatten().flatten();
    let mut tids: Vec<i32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    tids.sort_unstable();
    tids
}

/// Context switches of each thread: the same twice means that it did not run between.
fn switches(place: &Path, tids: &[i32]) -> BTreeMap<i32, u64> {
    let of = |tid: &i32| {
        let text = fs::read_to_string(place.join(format!("task/{tid}/status"))).ok()?;
        let counts = text.lines().filter_map(|line| line.split_once("_ctxt_switches:"));
        Some((*tid, counts.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum()))
    };
    tids.iter().take(THREADS_MAX).filter_map(of).collect()
}

/// The numbers that the threads have in their own pid namespace, which is what the interpreter knows.
fn namespace_tids(place: &Path, tids: &[i32]) -> BTreeMap<i32, u64> {
    let of = |tid: &i32| {
        let text = fs::read_to_string(place.join(format!("task/{tid}/status"))).ok()?;
        let ids = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        Some((*tid, ids.split_ascii_whitespace().next_back()?.parse().ok()?))
    };
    tids.iter().take(THREADS_MAX).filter_map(of).collect()
}

/// How long a report may take where somebody waits for it.
pub const REPORT_MAX: Duration = Duration::from_millis(500);

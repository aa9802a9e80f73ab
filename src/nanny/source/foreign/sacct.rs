//! `sacct --parsable2` of Slurm, with a heading and any columns; JobID, State, Start and End are needed.
//! Lines of steps (`123.batch`) follow their job: the largest memory of a step is the job's.

use std::collections::HashMap;

use crate::model::time::WallTime;
use crate::model::verdict::VerdictKind;
use crate::nanny::source::foreign::{ForeignLine, ForeignLog, ForeignRun, name_of, size, span};

#[derive(Default)]
pub struct Sacct {
    heading: HashMap<String, usize>,
    width: usize,
    /// A job that waits for its steps.
    held: Option<Box<ForeignRun>>,
}

impl ForeignLog for Sacct {
    fn line(&mut self, line: &str) -> ForeignLine {
        if line.trim().is_empty() {
            return ForeignLine::Nothing;
        }
        let cells: Vec<&str> = line.split('|').collect();
        if self.heading.is_empty() {
            self.width = cells.len();
            self.heading = cells
                .iter()
                .enumerate()
                .map(|(at, name)| (name.to_ascii_lowercase(), at))
                .collect();
            let missing = ["jobid", "state", "start", "end"]
                .into_iter()
                .find(|name| !self.heading.contains_key(*name));
            return match missing {
                Some(name) => ForeignLine::Bad(format!(
                    "the heading has no '{name}': sacct --parsable2 --format=JobID,JobName,User,State,ExitCode,Start,End,NodeList,ReqMem,MaxRSS,Timelimit,Partition,WorkDir"
                )),
                None => ForeignLine::Nothing,
            };
        }
        if cells.len() != self.width {
            return ForeignLine::Bad(format!("{} cells in place of {}", cells.len(), self.width));
        }
        let cell = |name: &str| self.heading.get(name).map_or("", |at| cells[*at]);
        if let Some((job, _)) = cell("jobid").split_once('.') {
            if let Some(held) = self.held.as_mut().filter(|held| held.id == job) {
                let peak = size(cell("maxrss"), 1);
                held.peak_bytes = held.peak_bytes.max(peak.filter(|peak| *peak > 0));
            }
            return ForeignLine::Nothing;
        }
        let read = job(cell);
        match read {
            ForeignLine::Run(run) => {
                self.held.replace(run).map_or(ForeignLine::Nothing, ForeignLine::Run)
            }
            other => other,
        }
    }

    fn end(&mut self) -> ForeignLine {
        self.held.take().map_or(ForeignLine::Nothing, ForeignLine::Run)
    }
}

/// Reads the line of a job.
fn job<'a>(cell: impl Fn(&str) -> &'a str) -> ForeignLine {
    let state = cell("state");
    let Some(ended) = time(cell("end")) else {
        let is_going_on = ["PENDING", "RUNNING", "SUSPENDED", "REQUEUED", "RESIZING"]
            .iter()
            .any(|word| state.starts_with(word));
        return if is_going_on {
            ForeignLine::Unfinished
        } else {
            ForeignLine::Bad(format!("'{}' is not a time", cell("end")))
        };
    };
    // Cancelled before it began.
    let began = time(cell("start")).unwrap_or(ended);
    let mut run = ForeignRun {
        id: cell("jobid").to_owned(),
        began,
        ended,
        host: first_host(cell("nodelist")),
        user: cell("user").to_owned(),
        uid: cell("uid").to_owned(),
        name: cell("jobname").to_owned(),
        directory: cell("workdir").to_owned(),
        command: cell("submitline").to_owned(),
        cpu_seconds: span(cell("totalcpu")),
        peak_bytes: size(cell("maxrss"), 1).filter(|peak| *peak > 0),
        ..ForeignRun::default()
    };
    if run.name.is_empty() {
        run.name = name_of(&run.command);
    }
    let (status, signal) = cell("exitcode").split_once(':').unwrap_or(("0", "0"));
    run.end_by(status.parse().unwrap_or(0), signal.parse().unwrap_or(0));
    let word = state.split([' ', '+']).next().unwrap_or_default();
    run.verdict = match word {
        "COMPLETED" => Some(VerdictKind::Success),
        "FAILED" => {
            run.verdict.filter(|verdict| !verdict.is_success()).or(Some(VerdictKind::Unknown))
        }
        "CANCELLED" | "PREEMPTED" | "REVOKED" => Some(VerdictKind::StopRequested),
        "TIMEOUT" | "DEADLINE" => Some(VerdictKind::TimedOut),
        "OUT_OF_MEMORY" => Some(VerdictKind::OomKilled),
        "NODE_FAIL" | "BOOT_FAIL" | "LAUNCH_FAILED" => None,
        _ => return ForeignLine::Bad(format!("state '{state}' is not known")),
    };
    run.sender_uid = state.strip_prefix("CANCELLED by ").unwrap_or_default().to_owned();
    run.evidence = format!("Slurm says: {state}");
    let asked = [
        ("TIME_SECONDS", span(cell("timelimit"))),
        (
            "MEMORY_BYTES",
            size(cell("reqmem"), 1 << 20).filter(|bytes| *bytes > 0).map(|bytes| bytes as f64),
        ),
    ];
    run.request =
        asked.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?))).collect();
    let queue = cell("partition");
    run.request.extend((!queue.is_empty()).then(|| format!("QUEUE={queue}")));
    ForeignLine::Run(Box::new(run))
}

/// Reads `2026-11-22T14:05:09`, which is UTC if sacct ran with TZ=UTC.
fn time(text: &str) -> Option<f64> {
    WallTime::from_rfc3339(&format!("{text}.000000Z")).map(|time| time.0.as_secs_f64())
}

/// Returns the first name of `node[01-03,7],other`.
fn first_host(list: &str) -> String {
    match list {
        "None assigned" => String::new(),
        _ => match list.split_once('[') {
            Some((prefix, rest)) if !prefix.contains(',') => {
                format!("{prefix}{}", rest.split([',', '-', ']']).next().unwrap_or_default())
            }
            _ => list.split(',').next().unwrap_or_default().to_owned(),
        },
    }
}

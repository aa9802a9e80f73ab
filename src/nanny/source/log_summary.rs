//! What the log of a run says beyond the record: what happened when, the job's last words on standard
//! error, and the flight recorder at its highest.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::files::{self, Links, Owner};

/// Events that are shown at most: the last ones.
const EVENTS_MAX: usize = 40;

/// Lines of standard error that are shown at most.
const WORDS_MAX: usize = 20;

/// Lines of crashes that are shown at most: the first ones.
const CRASH_LINES_MAX: usize = 40;

/// The longest line that is read whole.
const LINE_BYTES_MAX: u64 = 1 << 16;

/// A log that is longer is read to here: a sparse file has no end.
const LOG_BYTES_MAX: u64 = 1 << 30;

/// Beginnings of messages that are shown elsewhere, or are of no use here.
const PASSED_OVER: [&str; 9] = [
    "childminder ",
    "trapped ",
    "evidence in force",
    "rusage info",
    "verdict: ",
    "file ",
    "number of function calls",
    "processes of other users",
    "recorder ",
];

/// What a log says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LogSummary {
    /// Messages and when they came, in seconds since the run began.
    pub events: VecDeque<(String, String)>,
    /// How many more there were before.
    pub left_out: usize,
    /// The reports of crashes.
    pub crashes: Vec<String>,
    /// The job's last lines on standard error, as far as childminder had them.
    pub words: VecDeque<String>,
    /// The sample of the flight recorder with the most memory, and when that was.
    pub peak: Option<String>,
    /// What other users were running.
    pub neighbours: Option<String>,
}

/// Reads a log of either form.
///
/// # Errors
///
/// It is not there, or cannot be read.
pub fn read(log: &Path) -> io::Result<LogSummary> {
    // Whoever can write the record names the file.
    let file = files::open(log, Owner::Anybody, Links::Trusted)?;
    of(file.take(LOG_BYTES_MAX))
}

/// Reads a log from an open file.
pub fn of(log: impl Read) -> io::Result<LogSummary> {
    let mut reader = BufReader::with_capacity(1 << 16, log);
    let mut summary = LogSummary::default();
    let mut highest = -1.0;
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(summary);
        }
        if let Some((elapsed, message)) = parse(String::from_utf8_lossy(&line).trim_end()) {
            summary.add(&elapsed, &message, &mut highest);
        }
    }
}

impl LogSummary {
    fn add(&mut self, elapsed: &str, message: &str, highest: &mut f64) {
        if let Some(words) = message.strip_prefix("stderr: ") {
            self.words.push_back(words.to_owned());
            if self.words.len() > WORDS_MAX {
                self.words.pop_front();
            }
        } else if let Some(line) = message.strip_prefix("crash: ") {
            if self.crashes.len() < CRASH_LINES_MAX {
                self.crashes.push(line.to_owned());
            }
        } else if let Some(sample) = message.strip_prefix("recorder ") {
            let resident = resident_mib(sample);
            if resident > *highest {
                *highest = resident;
                self.peak = Some(sample.to_owned());
            }
        } else if message.starts_with("processes of other users") {
            self.neighbours = Some(message.to_owned());
        } else if !PASSED_OVER.iter().any(|begin| message.starts_with(begin))
            && !message.contains(" rusage info -- ")
        {
            self.events.push_back((elapsed.to_owned(), without_command(message)));
            if self.events.len() > EVENTS_MAX {
                self.events.pop_front();
                self.left_out += 1;
            }
        }
    }
}

/// Leaves the command line out of `child COMMAND started in process PID`: it is among the facts.
fn without_command(message: &str) -> String {
    match message.rsplit_once(" started in process ") {
        Some((child, pid)) if child.starts_with("child ") => {
            format!("child started in process {pid}")
        }
        _ => message.to_owned(),
    }
}

/// Takes the span and the message out of a line of the log.
fn parse(line: &str) -> Option<(String, String)> {
    if line.starts_with('{') {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let elapsed = line.get("elapsed_seconds")?.as_f64()?;
        return Some((format!("{elapsed:.6}"), line.get("message")?.as_str()?.to_owned()));
    }
    let (_, rest) = line.split_once(" [+")?;
    let (elapsed, rest) = rest.split_once("](")?;
    let (_, message) = rest.split_once("): ")?;
    Some((elapsed.to_owned(), message.to_owned()))
}

/// Reads `resident 12.3 MiB` in a sample.
fn resident_mib(sample: &str) -> f64 {
    let behind = sample.split_once("resident ").map(|(_, behind)| behind);
    let number = behind.and_then(|behind| behind.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_log_give_the_same_summary() {
        let text = "20261122T165222.650415 [+0.000436](node7): child sh started in process 4221\n\
            20261122T165222.650449 [+0.000470](node7): trapped SIGHUP SIGINT\n\
            20261122T165223.000000 [+0.350000](node7): signal 15 (SIGTERM) from kill(2). Signal sent\n\
            20261122T165223.000000 [+0.360000](node7): child 4221 rusage info -- system time: 0.0s\n\
            20261122T165223.000000 [+0.400000](node7): recorder -2.0 s: 1 processes, resident 9.5 MiB, 4\n\
            20261122T165223.000000 [+0.400000](node7): recorder -1.0 s: 1 processes, resident 12.0 MiB, 4\n\
            20261122T165223.000000 [+0.400000](node7): recorder -0.0 s: 1 processes, resident 3.0 MiB, 4\n\
            20261122T165223.000000 [+0.500000](node7): stderr: no room\n\
            what is this\n\
            20261122T165223.000000 [+0.600000](node7): verdict: exit_nonzero (certain)\n";
        let json: String = text
            .lines()
            .filter_map(parse)
            .map(|(at, message)| {
                let at: f64 = at.parse().expect("a number");
                format!("{}\n", serde_json::json!({"elapsed_seconds": at, "message": message}))
            })
            .collect();
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("log.txt");
        let summary_of = |text: &str| {
            std::fs::write(&path, text).expect("written");
            read(&path).expect("read")
        };
        let summary = summary_of(text);
        assert_eq!(summary, summary_of(&json));
        let events: Vec<(&str, &str)> =
            summary.events.iter().map(|(at, message)| (at.as_str(), message.as_str())).collect();
        let signal = "signal 15 (SIGTERM) from kill(2). Signal sent";
        let started = ("0.000436", "child started in process 4221");
        assert_eq!(events, [started, ("0.350000", signal)]);
        assert_eq!(summary.words, ["no room"]);
        assert!(summary.peak.is_some_and(|peak| peak.starts_with("-1.0 s")));
    }

    #[test]
    fn a_flood_of_events_is_cut_at_its_beginning_and_counted() {
        let mut summary = LogSummary::default();
        for number in 0..100 {
            summary.add("1.0", &format!("signal {number}"), &mut 0.0);
        }
        assert_eq!((summary.events.len(), summary.left_out), (EVENTS_MAX, 60));
        assert_eq!(summary.events[EVENTS_MAX - 1].1, "signal 99");
    }
}

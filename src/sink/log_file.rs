//! The traditional log: one line for each event, in text or JSON. Lines of one moment are written
//! together.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::files::{self, Directory, Links};
use crate::model::event::Event;
use crate::model::history::RunHistory;
use crate::model::text::{PrintableWriter, is_unprintable, printable_json};
use crate::model::time::{Moment, Seconds, Stamp};
use crate::plan::{LogFormat, LogPlan, LogTarget};
use crate::record::network::network_filesystem_of;
use crate::sink::behind::Behind;
use crate::sink::outlet::Outlet;
use crate::sink::{Sink, SinkError, console};
use crate::sys::signals::SignalFd;
use crate::sys::stream::Stream;

/// At most this number of files of one name is stepped over before we give up: a command, host and pid come
/// together again only after all pids were used.
const SAME_NAME_MAX: u32 = 1000;

/// Where logs go if nobody says where.
const DEFAULT_DIRECTORY: &str = "log";

/// The longest part of a file's name that comes from the command, in bytes: with the host's 64
/// the whole stays below the 255 of most filesystems.
const COMMAND_BYTES_MAX: usize = 100;

/// What a log file is named after.
#[derive(Clone, Debug)]
pub struct LogName {
    /// The command's first word, or the built-in function's.
    pub command: String,
    pub host: String,
    pub pid: i32,
}

pub struct LogFile {
    out: Out,
    /// The directory of a file that may have to be deleted (`-d`).
    directory: Option<Directory>,
    /// What was made for it, in order: directories, then the file.
    created: Vec<PathBuf>,
    target: PathBuf,
    format: LogFormat,
    host: String,
    line: String,
}

/// Where its lines go.
enum Out {
    /// A file that was made and not written yet.
    Fresh(File),
    /// Standard output, or a file of our own on this machine: written by whoever publishes.
    Direct(Outlet),
    /// Standard error, which others write as well.
    Stderr,
    /// A file that may keep its writer waiting.
    Behind(Behind),
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    elapsed_seconds: f64,
    host: &'a str,
    message: String,
    #[serde(flatten)]
    event: Option<&'a Event>,
}

impl LogFile {
    /// Opens it as the plan says: a file that exists already is never written over.
    ///
    /// # Errors
    ///
    /// The directory cannot be made or written; nothing is left behind.
    pub fn open(plan: &LogPlan, name: &LogName) -> Result<LogFile, SinkError> {
        let (out, directory, created, target) = match &plan.target {
            LogTarget::Stderr => (Out::Stderr, None, Vec::new(), "stderr".into()),
            LogTarget::Stdout => {
                let stream = Stream::of(io::stdout().as_fd()).map_err(|source| SinkError {
                    action: "write log to",
                    target: "stdout".into(),
                    source,
                })?;
                (Out::Direct(Outlet::with(stream)), None, Vec::new(), "stdout".into())
            }
            LogTarget::Directory(directory) => open_in(directory, name)?.parts(),
            LogTarget::Default => match open_in(Path::new(DEFAULT_DIRECTORY), name) {
                Ok(opened) => opened.parts(),
                Err(error) => {
                    let reason = error.source.to_string();
                    let reason = reason.split(" (os error ").next().unwrap_or_default();
                    let advice = "the log goes to standard error (-l DIR names another directory)";
                    // Standard error is the last place to complain.
                    console::say(&format!("{error}: {reason}; {advice}")).ok();
                    (Out::Stderr, None, Vec::new(), "stderr".into())
                }
            },
        };
        Ok(LogFile {
            out,
            // A descriptor less for a job that has few.
            directory: directory.filter(|_| plan.delete_on_success),
            created,
            target,
            format: plan.format,
            host: name.host.clone(),
            line: String::with_capacity(512),
        })
    }

    /// Returns whether its lines go to standard error.
    #[must_use]
    pub fn is_stderr(&self) -> bool {
        matches!(self.out, Out::Stderr)
    }

    /// Returns where the log is, if it is a file of its own.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.created.last().map(PathBuf::as_path)
    }

    /// Removes the file (`-d`); a stream has none.
    ///
    /// # Errors
    ///
    /// Of unlink(2).
    pub fn delete(&mut self) -> Result<(), SinkError> {
        match self.created.pop() {
            None => Ok(()),
            Some(path) => {
                let name = path.file_name().unwrap_or_default();
                let removed = self.directory.as_ref().map_or(Ok(()), |here| here.remove(name));
                removed.map_err(|source| SinkError { action: "delete log", target: path, source })
            }
        }
    }

    /// Removes all that was made, because nothing was started.
    pub fn undo(mut self) {
        remove(&std::mem::take(&mut self.created));
    }

    /// Writes what was published; returns whether something still waits for a reader.
    ///
    /// # Errors
    ///
    /// Of write(2): lines are lost, and counted.
    pub fn flush(&mut self) -> Result<bool, SinkError> {
        let Out::Direct(outlet) = &mut self.out else { return Ok(false) };
        let written = outlet.retry(io::stdout().as_fd());
        let is_waiting = outlet.is_waiting();
        written.map(|()| is_waiting).map_err(|source| self.cannot_write(source))
    }

    fn cannot_write(&self, source: io::Error) -> SinkError {
        SinkError { action: "write log", target: self.target.clone(), source }
    }

    /// Waits until all is written, until the deadline, or until a signal asks us to stop. Returns
    /// how many lines are not written.
    pub fn drain(&mut self, deadline: Moment, signals: &SignalFd) -> u64 {
        match &mut self.out {
            Out::Fresh(_) => 0,
            Out::Direct(outlet) => outlet.drain(io::stdout().as_fd(), deadline, signals),
            Out::Stderr => console::drain(deadline, signals),
            Out::Behind(behind) => behind.drain(deadline, signals),
        }
    }

    fn put(&mut self) -> io::Result<()> {
        // The job was started by now: it does not wait for the thread.
        if matches!(self.out, Out::Fresh(_))
            && let Out::Fresh(file) = std::mem::replace(&mut self.out, Out::Stderr)
        {
            let behind = network_filesystem_of(&file).and_then(|_| Behind::start(&file).ok());
            self.out = match behind {
                Some(behind) => Out::Behind(behind),
                None => Out::Direct(Outlet::with(Stream::file(file))),
            };
        }
        let line = self.line.as_bytes();
        match &mut self.out {
            Out::Direct(outlet) => outlet.hold(io::stdout().as_fd(), line),
            Out::Fresh(_) | Out::Stderr => console::put(line),
            Out::Behind(behind) => behind.put(line),
        }
    }

    fn format_text(&mut self, stamp: Stamp, event: &Event) -> std::fmt::Result {
        let (wall, elapsed) = (stamp.wall, Seconds(stamp.elapsed));
        // A newline in a message would forge a line.
        let mut line = PrintableWriter(&mut self.line);
        write!(line, "{wall} [+{elapsed}]({}): {event}", self.host)?;
        self.line.push('\n');
        for detail in event.details() {
            let mut line = PrintableWriter(&mut self.line);
            write!(line, "{wall} [+{elapsed}]({}): {detail}", self.host)?;
            self.line.push('\n');
        }
        Ok(())
    }

    fn format_json(&mut self, stamp: Stamp, event: &Event) {
        let mut line = JsonLine {
            time: stamp.wall.rfc3339(),
            elapsed_seconds: stamp.elapsed.as_secs_f64(),
            host: &self.host,
            message: event.to_string(),
            event: Some(event),
        };
        let whole = serde_json::to_string(&line).or_else(|_| {
            // A field that JSON cannot hold does not cost the line.
            line.event = None;
            serde_json::to_string(&line)
        });
        self.line.push_str(&printable_json(&whole.unwrap_or_default()));
        self.line.push('\n');
    }
}

impl Sink for LogFile {
    fn publish(&mut self, stamp: Stamp, event: &Event, _: &RunHistory) -> Result<(), SinkError> {
        if !event.is_for_log() {
            return Ok(());
        }
        self.line.clear();
        match self.format {
            // Memory alone can fail, and that aborts.
            LogFormat::Text => self.format_text(stamp, event).unwrap_or(()),
            LogFormat::Json => self.format_json(stamp, event),
        }
        self.put().map_err(|source| self.cannot_write(source))
    }
}

/// A log file that was made.
struct OpenedLog {
    file: File,
    directory: Directory,
    created: Vec<PathBuf>,
    path: PathBuf,
}

impl OpenedLog {
    fn parts(self) -> (Out, Option<Directory>, Vec<PathBuf>, PathBuf) {
        (Out::Fresh(self.file), Some(self.directory), self.created, self.path)
    }
}

/// Makes a file of a new name in the directory, which is made if it is missing.
fn open_in(directory: &Path, name: &LogName) -> Result<OpenedLog, SinkError> {
    let fail = |action, source| {
        let target = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        SinkError { action, target, source }
    };
    let mut created = Vec::new();
    let made = match new_file(directory, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Err(source) = make_directories(directory, &mut created) {
                remove(&created);
                return Err(fail("make log directory", source));
            }
            or_let_us_in(&created, || new_file(directory, name))
        }
        other => other,
    };
    match made {
        Ok((here, file, path)) => {
            created.push(path.clone());
            Ok(OpenedLog { file, directory: here, created, path })
        }
        Err(source) => {
            remove(&created);
            Err(fail("make a log file in", source))
        }
    }
}

/// Makes what is missing on the way to a directory, and it; notes what was made.
fn make_directories(directory: &Path, created: &mut Vec<PathBuf>) -> io::Result<()> {
    match fs::create_dir(directory) {
        Ok(()) => created.push(directory.to_owned()),
        Err(error) => match (error.kind(), directory.parent()) {
            (io::ErrorKind::NotFound, Some(parent)) if !parent.as_os_str().is_empty() => {
                make_directories(parent, created)?;
                or_let_us_in(created, || fs::create_dir(directory))?;
                created.push(directory.to_owned());
            }
            (io::ErrorKind::AlreadyExists, _) if directory.is_dir() => {}
            // A link to what does not exist is there and is not a directory.
            (io::ErrorKind::AlreadyExists, _) => return Err(io::ErrorKind::NotADirectory.into()),
            _ => return Err(error),
        },
    }
    Ok(())
}

/// Makes something in the directory that was made last. If the umask of the run took the bits that its
/// owner needs, they are set, and it is tried again.
fn or_let_us_in<T>(created: &[PathBuf], make: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match (make(), created.last()) {
        (Err(error), Some(last)) if error.kind() == io::ErrorKind::PermissionDenied => {
            files::let_owner(&Directory::open(last, Links::Refused)?, 0o700)?;
            make()
        }
        (made, _) => made,
    }
}

fn new_file(directory: &Path, name: &LogName) -> io::Result<(Directory, File, PathBuf)> {
    let here = Directory::open(directory, Links::Trusted)?;
    let stem = format!("{}-{}-{:06}", file_word(&name.command), file_word(&name.host), name.pid);
    for number in 1..=SAME_NAME_MAX {
        let file = match number {
            1 => format!("{stem}.txt"),
            _ => format!("{stem}-{number}.txt"),
        };
        match here.create(file.as_ref(), 0o666) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map(|made| (here, made, directory.join(file))),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "a thousand logs of that name exist"))
}

/// Takes the last part of a command's path, without what is awkward in a file's name.
fn file_word(text: &str) -> String {
    let base = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let is_safe = |c: char| !is_unprintable(c) && c != char::REPLACEMENT_CHARACTER;
    let mut word: String = base.chars().map(|c| if is_safe(c) { c } else { '_' }).collect();
    while word.len() > COMMAND_BYTES_MAX {
        word.pop();
    }
    if word.is_empty() { "job".to_owned() } else { word }
}

/// Removes in reverse what was made; what is not empty or not there stays as it is.
fn remove(created: &[PathBuf]) {
    for path in created.iter().rev() {
        // Only a directory of ours that somebody used meanwhile can refuse.
        fs::remove_file(path).or_else(|_| fs::remove_dir(path)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::Pid;
    use crate::model::time::WallTime;
    use std::time::Duration;

    fn name() -> LogName {
        LogName { command: "/usr/bin/ls".into(), host: "node7".into(), pid: 4121 }
    }

    fn plan(directory: &Path, format: LogFormat) -> LogPlan {
        let target = LogTarget::Directory(directory.to_owned());
        LogPlan { target, format, delete_on_success: false }
    }

    fn stamp() -> Stamp {
        let wall = WallTime(Duration::new(1_795_363_199, 42_000));
        Stamp { wall, elapsed: Duration::from_micros(1_500_007) }
    }

    #[test]
    fn a_line_has_time_span_host_and_message() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = LogFile::open(&plan(dir.path(), LogFormat::Text), &name()).expect("a log");
        log.publish(stamp(), &Event::Exited { pid: Pid(7), status: 0 }, &RunHistory::default())
            .expect("written");
        log.flush().expect("written");
        let file = dir.path().join("ls-node7-004121.txt");
        assert_eq!(
            fs::read_to_string(file).expect("the file"),
            "20261122T155959.000042 [+1.500007](node7): child 7 exited with status 0\n"
        );
    }

    #[test]
    fn a_json_line_has_the_fields_and_the_same_message() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = LogFile::open(&plan(dir.path(), LogFormat::Json), &name()).expect("a log");
        log.publish(stamp(), &Event::Exited { pid: Pid(7), status: 3 }, &RunHistory::default())
            .expect("written");
        log.flush().expect("written");
        let text = fs::read_to_string(dir.path().join("ls-node7-004121.txt")).expect("the file");
        let json: serde_json::Value = serde_json::from_str(&text).expect("one object");
        assert_eq!(json["event"], "exited");
        assert_eq!(json["status"], 3);
        assert_eq!(json["time"], "2026-11-22T15:59:59.000042Z");
        assert_eq!(json["message"], "child 7 exited with status 3");
    }

    #[test]
    fn a_log_that_exists_is_never_written_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = dir.path().join("ls-node7-004121.txt");
        fs::write(&first, "precious").expect("written");
        let log = LogFile::open(&plan(dir.path(), LogFormat::Text), &name()).expect("a log");
        assert!(log.target.ends_with("ls-node7-004121-2.txt"), "{:?}", log.target);
        assert_eq!(fs::read_to_string(first).expect("still there"), "precious");
    }

    #[test]
    fn a_log_that_is_undone_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join("a/b/log");
        LogFile::open(&plan(&deep, LogFormat::Text), &name()).expect("a log").undo();
        assert!(!dir.path().join("a").exists());
    }

    #[test]
    fn awkward_commands_make_ordinary_names() {
        assert_eq!(file_word("/usr/bin/ls"), "ls");
        assert_eq!(file_word("./a b\nc/"), "a b_c");
        assert_eq!(file_word("/"), "job");
        assert_eq!(file_word(&"x".repeat(500)).len(), COMMAND_BYTES_MAX);
    }
}

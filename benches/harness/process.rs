//! Processes that are bounded in time and leave nothing behind.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Fallible;

/// Rare enough not to disturb what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// No program that gets ready takes longer, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A command with null descriptors and without the CHILDMINDER_* options of whoever runs us.
pub fn command(program: impl AsRef<OsStr>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"CHILDMINDER_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.current_dir(directory);
    command
}

/// Waits until the condition holds, looking now and then.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Fallible<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > deadline {
            return Err(format!("waited in vain until {what}").into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// A process of ours. When it goes out of scope, it and its descendants are ended.
pub struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> Fallible<Running> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("start {name}: {error}"))?;
        Ok(Running { child, name })
    }

    /// Its pid: not used again before it is waited for.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Fallible<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(format!("{} did not end within {within:?}", self.name).into());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until its only child is the program of that name, and returns the child's pid.
    pub fn await_child(&self, name: &str) -> Fallible<i32> {
        let mut found = None;
        wait_until(&format!("{} has started {name}", self.name), || {
            found = children(self.pid()).into_iter().find(|child| comm(*child) == name);
            found.is_some()
        })?;
        found.ok_or_else(|| "no child".into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        let mut tree = vec![self.pid()];
        let mut next = 0;
        while let Some(pid) = tree.get(next) {
            tree.extend(children(*pid));
            next += 1;
        }
        tree.into_iter().for_each(end);
        // Killed, so this is short.
        self.child.wait().ok();
    }
}

/// Kills a process that is ours.
pub fn end(pid: i32) {
    // It may have ended by itself.
    kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
}

/// Runs a command to its end and returns what it said on standard output and on standard error.
/// A status other than 0 is an error.
pub fn output(command: &mut Command, within: Duration) -> Fallible<(String, String)> {
    // Files and no pipes: nobody has to read them while the command runs.
    let (mut out, mut err) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdout(out.try_clone()?).stderr(err.try_clone()?);
    let mut running = Running::start(command)?;
    let status = running.wait(within)?;
    let (out, err) = (text_of(&mut out)?, text_of(&mut err)?);
    if !status.success() {
        return Err(format!("{}: {status}: {}", running.name, err.trim()).into());
    }
    Ok((out, err))
}

fn text_of(file: &mut fs::File) -> Fallible<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The children of all threads of a process (proc(5)); none if it has gone.
fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let words =
        lists.flat_map(|list| list.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>());
    words.filter_map(|word| word.parse().ok()).collect()
}

fn comm(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The sum of a field over files of `Name: number` lines such as /proc/PID/status.
pub fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Whether a signal waits for the process, or for its first thread (proc(5), ShdPnd and SigPnd).
pub fn has_pending_signals(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = |name| {
        let mask = status.lines().find_map(|line: &str| line.strip_prefix(name));
        mask.is_some_and(|mask| mask.trim().bytes().any(|digit| digit != b'0'))
    };
    pending("ShdPnd:") || pending("SigPnd:")
}

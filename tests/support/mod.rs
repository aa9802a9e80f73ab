//! What the process tests share: a place of their own, the real program over real children, and
//! waiting for conditions instead of for time.
//!
//! Jobs are scripts for sh, and for perl where sh cannot say it: both are on every Debian.

#![allow(dead_code, reason = "each test file uses its part of it")]
#![allow(
    clippy::allow_attributes,
    reason = "an expectation would fail in the files that use it all"
)]
#![allow(missing_docs, reason = "the names say it")]
#![allow(clippy::disallowed_methods, reason = "tests start programs and read the clock")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use childminder::internals::VerdictKind;

/// No condition takes longer on a working machine, however busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// No program under test runs longer, on a machine that is busy with other things.
const LONGEST: Duration = Duration::from_secs(120);

/// No test takes longer, with all that it runs.
const LONGEST_TEST: Duration = Duration::from_secs(600);

/// Waits until the condition holds, looking every few milliseconds.
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_for(what, PATIENCE, condition);
}

pub fn wait_for(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program under test. A run as another user names a directory that he can read.
pub fn program() -> PathBuf {
    match std::env::var_os("CHILDMINDER_TEST_BIN_DIR") {
        Some(directory) => Path::new(&directory).join("childminder"),
        None => PathBuf::from(env!("CARGO_BIN_EXE_childminder")),
    }
}

/// The second program, which stands beside it.
pub fn nanny() -> PathBuf {
    program().with_file_name("nanny")
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Says, past the harness that hides what passing tests print, what could not be tested here.
pub fn skip(what: &str, why: &str) {
    say(&format!("SKIPPED: {what}: {why}\n"));
}

fn say(line: &str) {
    io::stderr().write_all(line.as_bytes()).expect("stderr");
}

/// The variable by which every process of one test is found again, whoever started it.
const MARK: &str = "MINDED_TEST";

/// A directory of a test's own. When it goes, no process of the test may be left.
pub struct Place {
    dir: tempfile::TempDir,
    mark: String,
    /// Ends what still runs when the test has taken too long: a program that hangs fails its test, however
    /// the test waits for it.
    _watchdog: Sender<()>,
}

impl Place {
    pub fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("minded-").tempdir().expect("a directory");
        let mark = dir.path().file_name().expect("a name").to_string_lossy().into_owned();
        let (watchdog, test) = mpsc::channel();
        let theirs = mark.clone();
        std::thread::spawn(move || {
            if test.recv_timeout(LONGEST_TEST) == Err(RecvTimeoutError::Timeout) {
                say(&format!("TOO LONG: what still runs of the test in {theirs} is ended\n"));
                marked(&theirs).into_iter().for_each(|pid| kill(pid, "KILL"));
            }
        });
        Place { dir, mark, _watchdog: watchdog }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where the programs under test keep their state.
    pub fn state_home(&self) -> PathBuf {
        self.file(".state")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The text of a file; empty if it is not there (yet).
    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.file(name)).unwrap_or_default()).into_owned()
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.file(name), text).expect("written");
        self.file(name)
    }

    /// Waits until a file has a line that contains the words, and returns that line.
    pub fn await_line(&self, name: &str, words: &str) -> String {
        let mut line = None;
        wait_until(&format!("{name} says '{words}'"), || {
            line = self.text(name).lines().find(|line| line.contains(words)).map(str::to_owned);
            line.is_some()
        });
        line.expect("found")
    }

    /// A command in this place, without the variables of whoever runs the tests that we heed.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let ours = [&b"CHILDMINDER_"[..], b"OTEL_", b"TRACE"];
            if ours.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.current_dir(self.path()).env(MARK, &self.mark).stdin(Stdio::null());
        // The key that rows are sealed with: not that of whoever runs the tests.
        command.env("XDG_STATE_HOME", self.state_home());
        command
    }

    /// childminder with these words.
    pub fn childminder<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.command(program());
        command.args(words);
        command
    }

    /// nanny with these words.
    pub fn nanny<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.command(nanny());
        command.args(words);
        command
    }

    /// A script of sh in this place, to which `$CM` and `$NANNY` are the programs under test.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = self.command("sh");
        command.args(["-c", script]).env("CM", program()).env("NANNY", nanny());
        command
    }

    /// An executable file. Another process writes it: a descriptor of ours that is open for
    /// writing, inherited by what other tests start, would make it busy (ETXTBSY of execve(2)).
    pub fn executable(&self, name: &str, text: &str) -> PathBuf {
        let mut writer = self.shell("cat > \"$1\" && chmod 755 \"$1\"");
        writer.args(["sh", name]).stdin(fs::File::open(self.write(".text", text)).expect("text"));
        assert!(writer.status().expect("sh starts").success(), "{name} is not made");
        fs::remove_file(self.file(".text")).expect("it is ours");
        self.file(name)
    }

    /// childminder as a user who may have no other process; `None` if that cannot be had here.
    pub fn without_processes(&self, words: &[&str]) -> Option<Command> {
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        let copied = self.command("cp").arg(program()).arg(self.file("cm")).status();
        assert!(copied.expect("cp starts").success());
        let mut command = self.command("prlimit");
        if is_root() {
            // The limit does not hold for root.
            let other = ["--reuid=54321", "--regid=54321", "--clear-groups"];
            let reached = self.command("setpriv").args(other).args(["./cm", "--version"]).output();
            if !reached.is_ok_and(|output| output.status.success()) {
                skip("a user without processes", "another user cannot reach the program");
                return None;
            }
            command = self.command("setpriv");
            command.args(other).arg("prlimit");
        }
        command.args(["--nproc=1", "./cm"]).args(words);
        Some(command)
    }

    /// Makes `cm`, a copy of the program that every user can reach and write beside; returns whether the user
    /// that setpriv(1) makes of these options can start it.
    pub fn copy_for(&self, user: [&str; 3]) -> bool {
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o777)).expect("ours");
        // Another process writes it: see `Place::executable`.
        let copied = self.command("cp").arg(program()).arg(self.file("cm")).status();
        assert!(copied.expect("cp starts").success());
        let reached = self.command("setpriv").args(user).args(["./cm", "--version"]).output();
        reached.is_ok_and(|output| output.status.success())
    }

    /// childminder as an ordinary user; `None` if root cannot become one here.
    pub fn as_another_user(&self, words: &[&str]) -> Option<Command> {
        let other = ["--reuid=54321", "--regid=54321", "--clear-groups"];
        if !self.copy_for(other) {
            skip("another user", "it cannot reach the program");
            return None;
        }
        let mut command = self.command("setpriv");
        command.args(other).arg("./cm").args(words);
        Some(command)
    }

    /// Runs childminder to its end and returns what it wrote.
    pub fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Done {
        self.run_command(self.childminder(words))
    }

    /// Runs a command that becomes childminder to its end and returns what it wrote.
    pub fn run_command(&self, mut command: Command) -> Done {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Done::new(self, output_of(command.spawn().expect("it starts")))
    }

    /// What is in this place: each path with its kind or, if it is a file, its text.
    pub fn contents(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        let mut open = vec![self.path().to_owned()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                let kind = fs::symlink_metadata(&path).expect("it is there").file_type();
                let text = match kind.is_file() {
                    true => fs::read(&path).unwrap_or_default(),
                    false => format!("{kind:?}").into_bytes(),
                };
                let text = match text.len() {
                    long @ 10_000.. => format!("{long} bytes").into_bytes(),
                    _ => text,
                };
                if kind.is_dir() {
                    open.push(path.clone());
                }
                found.insert(path, String::from_utf8_lossy(&text).into_owned());
            }
        }
        found
    }

    /// Runs a command line that cannot be carried out: "one line on stderr saying what and why ...
    /// exit 125; the job is not started; nothing is created" (DESIGN, section 2). Returns the line.
    #[track_caller]
    pub fn refused(&self, mut command: Command) -> String {
        let before = self.contents();
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let done = Done::new(self, output_of(output.expect("it starts")));
        assert_eq!(done.code(), 125, "{command:?}: {done:?}");
        let line =
            done.stderr.strip_suffix('\n').unwrap_or_else(|| panic!("{command:?}: {done:?}"));
        assert!(line.starts_with("childminder: "), "{command:?}: {done:?}");
        assert!(!line.contains(char::is_control), "{command:?}: more than a line: {done:?}");
        assert_eq!(done.stdout, "", "{command:?}");
        assert_eq!(self.contents(), before, "{command:?} changed something");
        line.to_owned()
    }

    /// Starts childminder in the background.
    pub fn start<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Running<'_> {
        self.start_command(self.childminder(words))
    }

    pub fn start_command(&self, mut command: Command) -> Running<'_> {
        self.start_command_of(&mut command)
    }

    pub fn start_command_of(&self, command: &mut Command) -> Running<'_> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running { place: self, child: Some(command.spawn().expect("it starts")) }
    }

    /// The paths of the logs in the default directory, in the order of their names.
    pub fn logs(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.file("log")) else { return Vec::new() };
        let mut logs: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        logs.sort();
        logs
    }

    /// The text of the only log in the default directory; empty if there is none (yet).
    pub fn log(&self) -> String {
        let logs = self.logs();
        assert!(logs.len() < 2, "more than one log: {logs:?}");
        logs.first().map(|log| fs::read_to_string(log).expect("the log")).unwrap_or_default()
    }

    /// Waits until the only log has a line that contains the words, and returns its message.
    pub fn await_log(&self, words: &str) -> String {
        let mut found = None;
        wait_until(&format!("the log says '{words}'"), || {
            found = messages(&self.log()).into_iter().find(|message| message.contains(words));
            found.is_some()
        });
        found.expect("found")
    }

    /// The living processes of this test, by the mark in their environment.
    pub fn processes(&self) -> Vec<i32> {
        marked(&self.mark)
    }
}

/// The living processes with that mark in their environment.
fn marked(mark: &str) -> Vec<i32> {
    let mark = format!("{MARK}={mark}");
    let is_marked = |pid: &i32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    };
    let entries = fs::read_dir("/proc").expect("proc");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(is_marked)
        .collect()
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test failed already: clean up, and let it say why.
            self.processes().into_iter().for_each(|pid| kill(pid, "KILL"));
            return;
        }
        // What was killed a moment ago may still be on its way out.
        wait_until("no process of the test is left", || self.processes().is_empty());
    }
}

/// A run that has ended.
#[derive(Debug)]
pub struct Done {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    /// The messages of the only log in the default directory, without time and host.
    pub log: Vec<String>,
}

impl Done {
    fn new(place: &Place, output: Output) -> Done {
        let log = if place.logs().len() == 1 { messages(&place.log()) } else { Vec::new() };
        Done { log, ..Done::without_log(output) }
    }

    /// A run whose log is elsewhere, of another form or not whole.
    pub fn without_log(output: Output) -> Done {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Done { status: output.status, stdout, stderr, log: Vec::new() }
    }

    /// The exit status; childminder itself never dies of a signal.
    #[track_caller]
    pub fn code(&self) -> i32 {
        assert_eq!(self.status.signal(), None, "childminder died of a signal: {self:?}");
        self.status.code().expect("it exited")
    }

    /// The only message that contains the words.
    #[track_caller]
    pub fn message(&self, words: &str) -> &str {
        let found: Vec<&String> = self.log.iter().filter(|line| line.contains(words)).collect();
        assert_eq!(found.len(), 1, "one message with '{words}' in {:#?}", self.log);
        found[0]
    }

    pub fn count(&self, words: &str) -> usize {
        self.log.iter().filter(|line| line.contains(words)).count()
    }

    /// The last message: the verdict.
    #[track_caller]
    pub fn verdict(&self) -> &str {
        let last = self.log.last().expect("a log with lines");
        last.strip_prefix("verdict: ").unwrap_or_else(|| panic!("the log ends with '{last}'"))
    }
}

/// What childminder says of itself on standard error, besides how the job ended.
pub fn troubles(done: &Done) -> Vec<&str> {
    let is_of_the_job =
        |line: &str| !verdicts(line).is_empty() || line.ends_with("]: restarts exhausted");
    let is_ours = |line: &&str| !is_of_the_job(line);
    done.stderr.lines().filter(is_ours).collect()
}

/// childminder in the background. It is ended if the test forgets it.
pub struct Running<'a> {
    place: &'a Place,
    child: Option<Child>,
}

impl Running<'_> {
    pub fn pid(&self) -> i32 {
        let child = self.child.as_ref().expect("it runs");
        i32::try_from(child.id()).expect("a pid")
    }

    /// Waits until the job was started and returns the pid of its first attempt, as the log has it.
    pub fn job(&self) -> i32 {
        let line = self.place.await_log(" started in process ");
        line.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("a pid")
    }

    pub fn signal(&self, name: &str) {
        kill(self.pid(), name);
    }

    pub fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().expect("it runs");
        child.try_wait().expect("our child").is_some()
    }

    /// Waits until it has ended.
    pub fn end(mut self) -> Done {
        let child = self.child.take().expect("it runs");
        let output = output_of(child);
        Done::new(self.place, output)
    }

    /// The same where there are several logs.
    pub fn end_without_log(mut self) -> Done {
        Done::without_log(output_of(self.child.take().expect("it runs")))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Waits for a program and for all that it writes. What hangs, or leaves a process behind that
/// holds its output, fails its test; the place then ends it.
fn output_of(mut child: Child) -> Output {
    let (stdout, stderr) = (all_of(child.stdout.take()), all_of(child.stderr.take()));
    let mut status = None;
    wait_for("the program ends", LONGEST, || {
        status = child.try_wait().expect("our child");
        status.is_some()
    });
    let whole = |output: Receiver<Vec<u8>>| {
        output.recv_timeout(PATIENCE).expect("nobody holds its output when it has ended")
    };
    let (stdout, stderr) = (whole(stdout), whole(stderr));
    Output { status: status.expect("it ended"), stdout, stderr }
}

fn all_of(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.expect("a pipe").read_to_end(&mut text).expect("a pipe can be read");
        // Nobody waits for it after a failure.
        sender.send(text).ok();
    });
    receiver
}

/// Locks a whole file for the open file description, as writers of the record do (fcntl(2)): by F_WRLCK or
/// F_RDLCK.
pub fn lock(file: &fs::File, kind: libc::c_int) {
    let lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let locked = nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock));
    locked.expect("nobody else has the lock");
}

/// Sends a signal by its name without SIG, as a user would: kill(1) is another process.
pub fn kill(pid: i32, name: &str) {
    let script = format!("kill -{name} {pid}");
    // The process may have gone.
    Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status().expect("sh starts");
}

/// Whether a message is the first of a log, which says what is run.
pub fn is_header(message: &str) -> bool {
    message.starts_with("childminder ") && message.ends_with("; times are UTC")
}

/// The messages of a log behind its first line, without time, span and host. A line that is just being written, and so has no end
/// yet, is left for the next look.
pub fn messages(log: &str) -> Vec<String> {
    let log = &log[..log.rfind('\n').map_or(0, |end| end + 1)];
    let message = |line: &str| line.split_once("): ").map(|(_, message)| message.to_owned());
    log.lines()
        .map(|line| message(line).unwrap_or_else(|| panic!("no log line: {line}")))
        .filter(|message| !is_header(message))
        .collect()
}

/// Whose it is (`NAME[PID]`) and what it says, for each line on standard error that has a verdict.
pub fn verdicts(stderr: &str) -> Vec<(&str, &str)> {
    let of = |line| {
        let (name, message) = str::split_once(str::strip_prefix(line, "childminder: ")?, ": ")?;
        let kind = message.split(' ').next()?;
        kind.parse::<VerdictKind>().is_ok().then_some((name, message))
    };
    stderr.lines().filter_map(of).collect()
}

/// The state letter of a process (proc(5)); `None` if it has gone.
pub fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The name of a process (`comm` in proc(5)).
pub fn name(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat[stat.find('(')? + 1..stat.rfind(") ")?].to_owned())
}

/// A process and all that descend from it.
pub fn descendants(pid: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let below = children.split_ascii_whitespace().filter_map(|word| word.parse().ok());
    std::iter::once(pid).chain(below.flat_map(descendants)).collect()
}

/// A line of /proc/PID/status, such as `SigIgn`.
pub fn status_field(text: &str, name: &str) -> String {
    let field = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    field.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

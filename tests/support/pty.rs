//! A terminal of a test's own with an interactive shell on it, which has job control.
//!
//! Echo is off, so what the terminal shows was written by a program. The shell's prompt tells the
//! exit status of the last command.

#![expect(clippy::disallowed_methods, reason = "tests read the clock")]
#![allow(dead_code, reason = "each test file uses its part of it")]
#![allow(
    clippy::allow_attributes,
    reason = "an expectation would fail in the file that uses it all"
)]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use nix::unistd::tcgetpgrp;

use crate::support::{PATIENCE, Place, program, wait_until};

/// Keys that the terminal turns into signals, or into the end of its input.
pub const CTRL_C: &str = "\x03";
pub const CTRL_D: &str = "\x04";
pub const CTRL_Z: &str = "\x1a";
pub const CTRL_BACKSLASH: &str = "\x1c";

/// The prompt, around the exit status of the last command.
const PROMPT: (&str, &str) = ("[status ", "] ");

/// What a command wrote, with its exit status.
#[derive(Debug)]
pub struct Answer {
    pub text: String,
    pub status: i32,
}

/// An interactive shell on a terminal of its own. `childminder` is on its PATH.
pub struct Shell {
    child: Child,
    /// `None` once it was hung up.
    master: Option<PtyMaster>,
    /// What the terminal showed and nobody expected yet.
    unread: String,
    /// All that it showed.
    shown: String,
    /// The terminal as the shell found it.
    settings: Termios,
}

impl Shell {
    pub fn bash(place: &Place) -> Shell {
        Shell::start(place, &["bash", "--norc", "--noprofile", "--noediting", "-i"])
    }

    pub fn dash(place: &Place) -> Shell {
        Shell::start(place, &["dash", "-i"])
    }

    fn start(place: &Place, shell: &[&str]) -> Shell {
        let (master, slave) = open();
        let mut settings = termios::tcgetattr(&slave).expect("its settings");
        settings.local_flags.remove(LocalFlags::ECHO);
        termios::tcsetattr(&slave, SetArg::TCSANOW, &settings).expect("set");
        let stdio = || Stdio::from(slave.try_clone().expect("a copy"));
        let programs = program().parent().expect("a directory").to_owned();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display());
        let mut command = place.command("setsid");
        command
            // Whoever runs the tests may ignore signals that they need.
            .args(["--ctty", "env", "--default-signal"])
            .args(shell)
            .env("PATH", path)
            .env("PS1", format!("{}$?{}", PROMPT.0, PROMPT.1))
            .env("HOME", place.path())
            .env("LC_ALL", "C")
            .env("TERM", "xterm")
            .env_remove("ENV")
            .env_remove("MAIL")
            .env_remove("NO_COLOR")
            .env_remove("PROMPT_COMMAND")
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio());
        let child = command.spawn().expect("the shell starts");
        let (unread, shown) = (String::new(), String::new());
        let mut shell = Shell { child, master: Some(master), unread, shown, settings };
        // Ours is closed first: a hang-up comes when the last copy of the other end has gone.
        drop((command, slave));
        shell.prompt();
        shell
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// All that the terminal showed so far.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Types these characters.
    pub fn press(&mut self, keys: &str) {
        let master = self.master.as_mut().expect("not hung up");
        master.write_all(keys.as_bytes()).expect("typed");
    }

    pub fn type_line(&mut self, line: &str) {
        self.press(&format!("{line}\n"));
    }

    /// Returns whether the terminal shows the text within that time.
    pub fn shows(&mut self, text: &str, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while !self.unread.contains(text) && self.read_until(deadline) {}
        self.unread.contains(text)
    }

    /// Waits until the terminal shows the text; returns what came before it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some((before, after)) = self.unread.split_once(text) {
                let (before, after) = (before.to_owned(), after.to_owned());
                self.unread = after;
                return before;
            }
            let goes_on = self.read_until(deadline);
            assert!(
                goes_on,
                "expected {text:?} after all but the last {:?} of {:?}",
                self.unread, self.shown
            );
        }
    }

    /// Waits for the prompt, and returns what came before it and the status that it tells.
    #[track_caller]
    pub fn prompt(&mut self) -> Answer {
        let text = self.expect(PROMPT.0);
        let status = self.expect(PROMPT.1).parse().expect("a status");
        Answer { text, status }
    }

    /// Types a line and waits until the shell has done with it.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> Answer {
        self.type_line(line);
        self.prompt()
    }

    /// The process group in the foreground.
    pub fn foreground(&self) -> i32 {
        let master = self.master.as_ref().expect("not hung up");
        tcgetpgrp(master).expect("a foreground group").as_raw()
    }

    /// Leaves the shell at its prompt. The terminal must be as the shell found it.
    #[track_caller]
    pub fn leave(mut self) {
        assert_eq!(self.foreground(), self.pid(), "the shell is in the foreground");
        let master = self.master.as_ref().expect("not hung up");
        let settings = termios::tcgetattr(master).expect("its settings");
        assert_eq!(settings, self.settings, "the terminal is set as before");
        self.type_line("exit");
        // To its end, or until it is there again: it does not leave stopped jobs at once.
        let stays = self.shows(PROMPT.0, PATIENCE);
        assert!(!stays, "the shell stays: {:?}", self.shown);
        self.await_end();
    }

    /// Closes the terminal, as a lost connection does, and waits for the shell's end.
    #[track_caller]
    pub fn hang_up(&mut self) {
        self.master = None;
        self.await_end();
    }

    #[track_caller]
    fn await_end(&mut self) {
        let child = &mut self.child;
        wait_until("the shell has ended", || child.try_wait().expect("its status").is_some());
    }

    /// Reads what the terminal shows; returns whether it did so before the deadline.
    fn read_until(&mut self, deadline: Instant) -> bool {
        let master = self.master.as_mut().expect("not hung up");
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).expect("less than a month");
        let mut polled = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, timeout) != Ok(1) {
            return false;
        }
        let mut bytes = [0; 4096];
        // When nobody has the other end open, the kernel says EIO.
        let length = master.read(&mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..length]);
        self.unread += &text;
        self.shown += &text;
        length > 0
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // As a rule it has ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Opens a new terminal. The copies do not reach programs that other tests start meanwhile.
fn open() -> (PtyMaster, File) {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a pty");
    grantpt(&master).expect("granted");
    unlockpt(&master).expect("unlocked");
    let name = ptsname_r(&master).expect("a name");
    let mut options = OpenOptions::new();
    let slave = options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(name);
    (master, slave.expect("the other end"))
}

//! The childminders that `nanny rerun` has started: a bounded number at a time, waited for, and stopped cleanly.
//!
//! All signals are blocked and come by a signalfd, as in childminder. The first request to stop only
//! keeps others from being started: what the terminal sends, the childminders have themselves, and
//! what was sent to us alone is passed on to them.

use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::model::outcome::WaitStatus;
use crate::model::process::Pid;
use crate::model::signal::{Origin, Signal};
use crate::nanny::commands::rerun::task::Task;
use crate::nanny::failure::Failure;
use crate::nanny::notes::note;
use crate::sys::entry::Given;
use crate::sys::signals::{self, RawSignal, SignalFd};
use crate::sys::spawn::{self, Program, Setting};
use crate::sys::wait::{self, Waited};
use crate::sys::{SysError, clock, environment, poll, terminal};

/// How often the progress bar is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(500);

/// Variables of childminder that are not about a job: a site may set them for all its runs. All others
/// would change the job, of which the record says everything.
const OF_THE_SITE: [&[u8]; 8] = [
    b"WEB_",
    b"TEXTFILE_",
    b"PUSHGATEWAY",
    b"METRIC_",
    b"OTEL_",
    b"NEW_TRACE",
    b"RECORD_ARGS",
    b"INSTANCE_ID",
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// How many were started.
    pub started: u64,
    /// How many of them returned 0.
    pub succeeded: u64,
}

/// See the module's documentation.
pub struct Workers<'a> {
    given: &'a Given,
    program: OsString,
    signals: SignalFd,
    at_once: usize,
    running: Vec<(Pid, OwnedFd)>,
    done: Done,
    is_stopping: bool,
    /// Whether some are in sessions of their own, where no terminal reaches them.
    has_sessions: bool,
    bar: ProgressBar,
}

impl From<SysError> for Failure {
    fn from(error: SysError) -> Failure {
        Failure::Refused(format!("cannot {}: {}", error.action, error.source.desc()))
    }
}

impl<'a> Workers<'a> {
    /// Prepares to run some, a few at once. To be called with all signals blocked.
    ///
    /// # Errors
    ///
    /// No descriptor left.
    pub fn new(given: &'a Given, at_once: usize) -> Result<Workers<'a>, Failure> {
        // Not drawn where standard error is not a terminal.
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
        let bar =
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Ok(Workers {
            given,
            program: childminder(),
            signals: SignalFd::open()?,
            at_once,
            running: Vec::new(),
            done: Done::default(),
            is_stopping: false,
            has_sessions: false,
            bar,
        })
    }

    /// Says how many there will be.
    pub fn expect(&mut self, count: u64) {
        self.bar.set_length(count);
    }

    /// Returns the childminders that run.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        self.running.iter().map(|(pid, _)| pid.0).collect()
    }

    /// Returns whether no more should be started.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Waits until another one may be started, or none at all.
    ///
    /// # Errors
    ///
    /// Of the system calls.
    pub fn wait_for_room(&mut self) -> Result<(), Failure> {
        // A request to stop may be there already.
        self.take_signals()?;
        while self.running.len() >= self.at_once && !self.is_stopping {
            self.wait()?;
        }
        Ok(())
    }

    /// Starts one. A failure costs this one only.
    ///
    /// # Errors
    ///
    /// Never yet.
    pub fn start(&mut self, task: &Task) -> Result<(), Failure> {
        let words: Vec<OsString> =
            [self.program.clone()].into_iter().chain(task.words.iter().cloned()).collect();
        let Ok(directory) = CString::new(task.directory.clone().into_os_string().into_vec()) else {
            self.leave_out("a directory with a NUL byte in its name");
            return Ok(());
        };
        let path = path().filter(|_| task.user.is_none());
        let program = Program::new(&words, path.as_deref());
        let null = task.user.is_some().then(null).transpose()?;
        let null = null.as_ref().map(AsFd::as_fd);
        let setting = Setting {
            environment: &environment_of(task),
            // A job of another user gets no descriptor of root's, least of all a terminal.
            standard: [null; 3],
            directory: Some(&directory),
            new_session: task.user.is_some(),
            given: self.given,
            cgroup: None,
            umask: task.umask,
            user: task.user.as_ref(),
            trace: None,
        };
        match spawn::spawn(&program, &setting) {
            Ok(child) => {
                self.has_sessions |= task.user.is_some();
                self.running.push((child.pid, child.pidfd));
                self.done.started += 1;
                self.draw();
            }
            Err(failure) => self.leave_out(&format!("not started: {failure}: {}", task.line)),
        }
        Ok(())
    }

    /// Passes over one that is not started, and says why.
    pub fn leave_out(&mut self, why: &str) {
        self.bar.suspend(|| note(why));
        self.bar.inc(1);
    }

    /// Waits until all that run have ended.
    ///
    /// # Errors
    ///
    /// Of the system calls.
    pub fn finish(mut self) -> Result<Done, Failure> {
        while !self.running.is_empty() {
            self.wait()?;
        }
        self.bar.finish_and_clear();
        Ok(self.done)
    }

    fn wait(&mut self) -> Result<(), Failure> {
        let deadline = (!self.bar.is_hidden()).then(|| clock::now() + DRAW_INTERVAL);
        poll::wait([Some(self.signals.as_fd())], deadline)?;
        self.take_signals()?;
        self.draw();
        Ok(())
    }

    fn take_signals(&mut self) -> Result<(), Failure> {
        let mut received = Vec::new();
        self.signals.read(&mut received)?;
        received.iter().try_for_each(|signal| self.react_to(signal))?;
        // Signals of one kind coalesce: so all children are asked, not as many as there were signals.
        self.reap()
    }

    fn react_to(&mut self, received: &RawSignal) -> Result<(), Failure> {
        match received.signal {
            Signal::TSTP | Signal::TTIN | Signal::TTOU if terminal::can_be_continued() => {
                // The childminders stop by themselves, after their jobs.
                terminal::stop_ourselves()?;
            }
            Signal::INT | Signal::TERM | Signal::QUIT | Signal::HUP => {
                if !self.is_stopping && !self.running.is_empty() {
                    let count = self.running.len();
                    self.bar.suspend(|| {
                        note(&format!(
                            "{}: nothing more is started; waiting for {count}",
                            received.signal
                        ));
                    });
                }
                self.is_stopping = true;
                let is_for_us =
                    matches!(received.origin, Origin::Kill | Origin::Queue | Origin::Thread);
                if is_for_us || self.has_sessions {
                    for (_, pidfd) in &self.running {
                        signals::send(pidfd.as_fd(), received.signal, None)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn reap(&mut self) -> Result<(), Failure> {
        while let Waited::Changed(pid, status) = wait::look()? {
            wait::take(pid)?;
            let WaitStatus::Ended(end) = status else { continue };
            let before = self.running.len();
            self.running.retain(|(running, _)| *running != pid);
            // Children that we got from a shell that executed us are not ours.
            if self.running.len() < before {
                self.done.succeeded += u64::from(end.exit_status() == 0);
                self.bar.inc(1);
            }
        }
        Ok(())
    }

    fn draw(&self) {
        let failed = self.done.started - self.done.succeeded - self.running.len() as u64;
        let running = self.running.len();
        let message = if failed > 0 { format!("{failed} failed, ") } else { String::new() };
        self.bar.set_message(format!("{message}{running} running"));
        self.bar.tick();
    }
}

/// childminder as it stands beside nanny; else whichever PATH has.
fn childminder() -> OsString {
    let beside = std::env::current_exe().map(|nanny| nanny.with_file_name("childminder"));
    match beside {
        Ok(beside) if beside.is_file() => beside.into(),
        _ => "childminder".into(),
    }
}

#[expect(clippy::disallowed_methods, reason = "it is where childminder is looked for")]
fn path() -> Option<OsString> {
    std::env::var_os("PATH")
}

fn null() -> Result<File, Failure> {
    let opened = OpenOptions::new().read(true).write(true).open("/dev/null");
    opened.map_err(|source| Failure::File { action: "open", path: "/dev/null".into(), source })
}

/// What is added to our environment, or taken out of it. A job of another user gets what a login sets,
/// and nothing of root's.
fn environment_of(task: &Task) -> Vec<(String, Option<String>)> {
    let Some(user) = &task.user else {
        return variables_to_remove().into_iter().map(|name| (name, None)).collect();
    };
    let names = environment::entries().filter_map(|entry| {
        let name = entry.split(|byte| *byte == b'=').next()?;
        Some((String::from_utf8(name.to_vec()).ok()?, None))
    });
    let home = user.home.to_string_lossy().into_owned();
    let of_a_login = [
        ("HOME", home.as_str()),
        ("USER", &user.name),
        ("LOGNAME", &user.name),
        ("SHELL", if user.shell.is_empty() { "/bin/sh" } else { &user.shell }),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ];
    let added = of_a_login.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    names.chain(added).collect()
}

fn variables_to_remove() -> Vec<String> {
    let names = environment::entries().filter_map(|entry| {
        let name = entry.split(|byte| *byte == b'=').next()?;
        let option = name.strip_prefix(b"CHILDMINDER_")?;
        let is_of_site = OF_THE_SITE.iter().any(|begin| option.starts_with(begin));
        (!is_of_site).then(|| String::from_utf8(name.to_vec()).ok())?
    });
    names.collect()
}

//! Reports about where the processes of the job wait: before `--timeout` ends them, and when `nanny stacks`
//! asks.
//!
//! A report is made on a thread of its own that ends with it. The supervising thread never waits for it: it
//! polls for the end of the thread, and for requests.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::{geteuid, pipe2};

use crate::model::event::Event;
use crate::model::process::{Pid, RunId};
use crate::observe::stacks::{REPORT_MAX, StackPlan};
use crate::sys::reaper::Tree;
use crate::sys::{clock, local_socket, threads};

/// What std gives a thread: names of C++ are demangled by recursion. Only what is used is memory.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// A client that does not read its answer is dropped after this time.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// At most this number of requests is answered in one round of the loop.
const ACCEPTED_MAX: usize = 8;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct StallReports {
    listener: Option<UnixListener>,
    in_progress: Option<InProgress>,
}

struct InProgress {
    /// Ends when the thread does, however it ends.
    end: OwnedFd,
    lines: Receiver<Vec<String>>,
    is_wanted: bool,
}

impl StallReports {
    /// Begins to listen for who asks. Without it nobody can ask, and the job goes on.
    pub(super) fn listen(&mut self, run: RunId) {
        if self.listener.is_none() {
            self.listener =
                local_socket::listen(&local_socket::name_of_stacks(&run.to_string())).ok();
        }
    }

    /// What to wait for: who asks, and the end of a report.
    pub(super) fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        let asked = self.listener.as_ref().map(AsFd::as_fd);
        [asked, self.in_progress.as_ref().map(|report| report.end.as_fd())]
    }

    /// Begins a report for the log; the answer is returned by [`Self::take`]. One that is being made
    /// serves as well.
    ///
    /// # Errors
    ///
    /// There can be no thread.
    pub(super) fn begin(&mut self, tree: &Tree) -> io::Result<()> {
        if let Some(report) = &mut self.in_progress {
            report.is_wanted = true;
            return Ok(());
        }
        self.start(tree, None, true)
    }

    /// Answers who asks.
    pub(super) fn answer(&mut self, tree: &Tree) {
        for _ in 0..ACCEPTED_MAX {
            let Some(Ok((mut asker, _))) = self.listener.as_ref().map(UnixListener::accept) else {
                return;
            };
            let refusal = match local_socket::peer(&asker) {
                Ok(peer) if peer.uid == 0 || peer.uid == geteuid().as_raw() => {
                    if self.in_progress.is_some() {
                        Some("a report is being made just now: ask again".to_owned())
                    } else {
                        let clone = asker.try_clone();
                        let started = clone.and_then(|asker| self.start(tree, Some(asker), false));
                        started.err().map(|error| format!("no report can be made: {error}"))
                    }
                }
                _ => Some(format!("only user {} and root may ask", geteuid())),
            };
            if let Some(refusal) = refusal {
                // It fits the buffer of the socket; who does not read it misses it.
                asker.set_nonblocking(true).ok();
                writeln!(asker, "{refusal}").ok();
            }
        }
    }

    fn start(&mut self, tree: &Tree, asker: Option<UnixStream>, is_wanted: bool) -> io::Result<()> {
        threads::check_room(STACK_BYTES as u64 + threads::HEAP_BYTES)?;
        let (end, held) = pipe2(OFlag::O_CLOEXEC)?;
        let (sender, lines) = mpsc::channel();
        let plan = StackPlan {
            root: PathBuf::from("/proc"),
            above: Pid(nix::unistd::getpid().as_raw()),
            with_above: false,
            left_out: tree.left_out(),
            until: clock::now() + REPORT_MAX,
            now: clock::now,
        };
        thread::Builder::new().name("stacks".to_owned()).stack_size(STACK_BYTES).spawn(
            move || {
                let lines = plan.look();
                // Whether anybody still wants it does not matter here.
                sender.send(lines.clone()).ok();
                drop(held);
                if let Some(mut asker) = asker {
                    asker.set_write_timeout(Some(WRITE_MAX)).ok();
                    asker.write_all((lines.join("\n") + "\n").as_bytes()).ok();
                }
            },
        )?;
        self.in_progress = Some(InProgress { end, lines, is_wanted });
        Ok(())
    }

    /// Returns the report that was finished, for the log, and whether [`Self::begin`] waits for it.
    pub(super) fn take(&mut self) -> Option<(Vec<Event>, bool)> {
        let report = self.in_progress.take()?;
        let lines = report.lines.try_recv().unwrap_or_default();
        let events = lines.into_iter().map(|text| Event::Stack { text }).collect();
        Some((events, report.is_wanted))
    }
}

//! Starts a process with exactly the signal state that childminder was given.
//!
//! The child borrows our memory and we wait until it has executed or failed (CLONE_VM and
//! CLONE_VFORK of clone(2)): nothing is copied, so this is the cheapest way to start one, and it
//! reports a failure by writing to our memory.

mod held;
mod step;
mod strings;

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::ptr;

use nix::errno::Errno;

use crate::model::outcome::SpawnFailure;
use crate::model::process::Pid;
use crate::sys::account::{Account, ChildCredentials};
use crate::sys::entry::Given;
use crate::sys::environment::{self, PidVariable};
use crate::sys::exec::{self, Search};
use crate::sys::exec_failure;
use crate::sys::inherited::Inherited;
use crate::sys::ptrace;
use crate::sys::spawn::held::{Held, Hold};
use crate::sys::spawn::step::Step;
use crate::sys::spawn::strings::{extended, pointers, to_c_string};

pub use crate::sys::spawn::held::{TraceRequest, Tracing};

/// Where execvp(3) looks if PATH is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The child's stack: its calls are shallow, and the pages are given back at once.
const STACK_BYTES: usize = 64 * 1024;

/// A program to start: everything allocated beforehand, because the child must not allocate.
pub struct Program {
    /// The name as it was given, for messages.
    name: OsString,
    /// PATH, or what stands in for it.
    path: OsString,
    /// The files to try, in order.
    candidates: Vec<CString>,
    arguments: Vec<CString>,
}

impl Program {
    /// Prepares a command. A name without a slash is looked for along PATH, like execvp(3) does.
    ///
    /// The command has at least one word and no NUL byte: the plan was checked for that.
    #[must_use]
    pub fn new(command: &[OsString], path: Option<&OsStr>) -> Program {
        let name = command.first().cloned().unwrap_or_default();
        let path = path.unwrap_or(OsStr::new(DEFAULT_PATH)).to_owned();
        let candidates = if name.as_bytes().contains(&b'/') {
            vec![to_c_string(name.clone())]
        } else {
            path.as_bytes().split(|byte| *byte == b':').map(|dir| join(dir, &name)).collect()
        };
        let arguments = command.iter().cloned().map(to_c_string).collect();
        Program { name, path, candidates, arguments }
    }

    /// Returns whether its file is looked for along PATH.
    fn is_search(&self) -> bool {
        !self.name.as_bytes().contains(&b'/')
    }

    /// Returns the candidate at that address.
    fn file(&self, address: *const c_char) -> Option<&Path> {
        let file = self.candidates.iter().find(|file| ptr::eq(file.as_ptr(), address))?;
        Some(Path::new(OsStr::from_bytes(file.to_bytes())))
    }

    /// Returns whether a word stands in its command line, by itself or within a script (`sh -c`).
    #[must_use]
    pub fn names(&self, word: &str) -> bool {
        let is_divider =
            |byte: &u8| !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'-' | b'.');
        let is_it = |part: &[u8]| part == word.as_bytes();
        self.arguments.iter().any(|text| text.to_bytes().split(is_divider).any(is_it))
    }
}

/// An empty item of PATH is the working directory.
fn join(directory: &[u8], name: &OsStr) -> CString {
    let mut file = directory.to_vec();
    if !file.is_empty() {
        file.push(b'/');
    }
    file.extend_from_slice(name.as_bytes());
    to_c_string(OsString::from_vec(file))
}

/// How the process is to begin.
pub struct Setting<'a> {
    /// What is added to our own environment or, without a value, taken out of it.
    pub environment: &'a [(String, Option<String>)],
    /// What its descriptors 0, 1 and 2 should be; `None` leaves one as childminder was given it.
    pub standard: [Option<BorrowedFd<'a>>; 3],
    /// Its working directory, if not ours.
    pub directory: Option<&'a CStr>,
    /// Whether it leads a session of its own (setsid(2)).
    pub new_session: bool,
    /// What childminder was given and hands on.
    pub given: &'a Given,
    /// `cgroup.procs` of the cgroup to be born into.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Its file mode creation mask, if not ours.
    pub umask: Option<u32>,
    /// The user that it becomes permanently, if not ours: only root can do that.
    pub user: Option<&'a Account>,
    /// Whether it is traced (ptrace(2)).
    pub trace: Option<TraceRequest>,
}

/// A child that was started and not yet reaped.
#[derive(Debug)]
pub struct Child {
    /// Its pid: not used again before we reap it.
    pub pid: Pid,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
    /// Whether it was born into the cgroup of [`Setting`]: some can be made and not entered.
    pub is_in_cgroup: bool,
    pub tracing: Tracing,
}

/// What the child reads and, if it fails, writes. It lives on the parent's stack, where the
/// child, which shares our memory, reaches it.
struct ChildShared {
    standard: [c_int; 3],
    closed: [bool; 3],
    directory: *const c_char,
    new_session: bool,
    cgroup: c_int,
    umask: Option<libc::mode_t>,
    user: Option<ChildCredentials>,
    mask: *const libc::sigset_t,
    ignore_sigchld: bool,
    inherited: *const Inherited,
    pid_variables: *mut [PidVariable],
    search: Search,
    is_in_cgroup: bool,
    failure: Option<(Step, c_int)>,
    /// Only in a child that does not share our memory.
    hold: Option<Hold>,
}

/// Starts the program.
///
/// # Errors
///
/// The job was not started, and the failure says whose fault it was.
pub fn spawn(program: &Program, setting: &Setting<'_>) -> Result<Child, SpawnFailure> {
    let mut environment = extended(setting.environment);
    let pid_variables = &raw mut *environment.pid_variables;
    let environment = pointers(environment.as_slice());
    let candidates = pointers(&program.candidates);
    // One slot in front of the arguments: a script without `#!` becomes an argument of sh.
    let mut arguments = vec![ptr::null()];
    arguments.extend(pointers(&program.arguments));
    let mut shared = ChildShared {
        standard: setting.standard.map(|fd| fd.map_or(-1, |fd| fd.as_raw_fd())),
        closed: setting.given.closed,
        directory: setting.directory.map_or(ptr::null(), CStr::as_ptr),
        new_session: setting.new_session,
        cgroup: setting.cgroup.map_or(-1, |fd| fd.as_raw_fd()),
        umask: setting.umask,
        user: setting.user.map(ChildCredentials::of),
        mask: setting.given.mask.as_ptr(),
        ignore_sigchld: setting.given.is_sigchld_ignored,
        inherited: &raw const setting.given.inherited,
        pid_variables,
        search: Search {
            is_search: program.is_search(),
            candidates: candidates.as_ptr(),
            arguments: arguments.as_mut_ptr(),
            environment: environment.as_ptr(),
        },
        is_in_cgroup: false,
        failure: None,
        hold: None,
    };
    let created = match setting.trace {
        None => clone_child(&mut shared, libc::CLONE_VM | libc::CLONE_VFORK),
        Some(request) => clone_held(&mut shared, request),
    };
    let child = created.map_err(|errno| SpawnFailure {
        step: "start a process".into(),
        errno: errno as i32,
        is_exec: false,
        is_found: false,
        cause: (errno == Errno::EAGAIN).then(exec_failure::too_many_processes),
    })?;
    match shared.failure {
        None => Ok(Child { is_in_cgroup: shared.is_in_cgroup, ..child }),
        Some((step, errno)) => {
            reap_failed(&child);
            Err(describe(step, errno, program, setting))
        }
    }
}

fn describe(step: Step, errno: c_int, program: &Program, setting: &Setting<'_>) -> SpawnFailure {
    let is_trace = matches!(step, Step::Trace);
    let (step, file) = match step {
        Step::Trace => ("trace the job (--trace=required)".to_owned(), None),
        Step::Redirect => ("redirect a standard descriptor".to_owned(), None),
        Step::User => ("become the user".to_owned(), None),
        Step::Directory => {
            let directory = setting.directory.unwrap_or_default().to_string_lossy();
            (format!("change directory to {directory}"), None)
        }
        Step::Execute(file) => {
            (format!("execute '{}'", program.name.to_string_lossy()), Some(program.file(file)))
        }
    };
    let is_exec = file.is_some();
    // The child's directory, which a relative name begins at.
    let base = Path::new(OsStr::from_bytes(setting.directory.unwrap_or_default().to_bytes()));
    let file = file.flatten().map(|file| base.join(file));
    let cause = match (&file, Errno::from_raw(errno)) {
        (Some(_), Errno::E2BIG) => {
            let length = |text: &CStr| text.count_bytes() + 1;
            let arguments: Vec<usize> = program.arguments.iter().map(|text| length(text)).collect();
            let added = setting
                .environment
                .iter()
                .filter_map(|(name, value)| Some(name.len() + 1 + value.as_ref()?.len() + 1));
            let environment: Vec<usize> = environment::strings().map(length).chain(added).collect();
            Some(exec_failure::too_big(&arguments, &environment))
        }
        (Some(file), errno) => exec_failure::explain(file, errno),
        (None, errno) if is_trace => Some(ptrace::refusal(errno)),
        (None, _) => is_exec.then(|| exec_failure::not_on_path(&program.path)),
    };
    let is_found = file.is_some_and(|file| file.exists());
    SpawnFailure { step, errno, is_exec, is_found, cause }
}

/// clone(2) with a pidfd. With CLONE_VM comes CLONE_VFORK: then it returns once the child has executed or ended.
fn clone_child(shared: &mut ChildShared, sharing: c_int) -> Result<Child, Errno> {
    let mut stack = Vec::<u128>::with_capacity(STACK_BYTES / size_of::<u128>());
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end.cast::<c_void>();
    let flags = sharing | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: c_int = -1;
    let shared: *mut ChildShared = shared;
    // SAFETY: the stack is ours, unused and aligned to 16 bytes; CLONE_VFORK keeps us, and with
    // us `shared`, the stack and `pidfd`, in place until the child has left our memory, or it has a
    // copy of its own of all of them; every
    // signal is blocked, so no handler runs in it (see child_main for what it calls).
    let pid = unsafe { libc::clone(child_main, top, flags, shared.cast(), &raw mut pidfd) };
    if pid < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the kernel stored a new descriptor, close-on-exec, that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: Pid(pid), pidfd, is_in_cgroup: false, tracing: Tracing::NotRequested })
}

/// The same for a child that is traced from its first step: it has a copy of our memory, for we go on meanwhile.
fn clone_held(shared: &mut ChildShared, request: TraceRequest) -> Result<Child, Errno> {
    let (held, hold) = Held::new()?;
    shared.hold = Some(hold);
    let child = clone_child(shared, 0)?;
    let (tracing, report) = held.release(child.pid, request);
    match (tracing, report) {
        (Tracing::Refused(errno), None) if request.is_required => {
            shared.failure = Some((Step::Trace, errno as c_int));
        }
        (_, Some(report)) => (shared.is_in_cgroup, shared.failure) = step::read_report(report),
        // It was killed before it got there: waitid(2) says so.
        (_, None) => {}
    }
    Ok(Child { tracing, ..child })
}

/// In the child: says what it found out so far to a parent that does not share its memory.
fn report(shared: &ChildShared) {
    if let Some(hold) = &shared.hold {
        hold.send(&step::report(shared.is_in_cgroup, shared.failure));
    }
}

/// The child, until execve(2). It shares the parent's memory, so it neither allocates nor locks:
/// it calls only setsid, write, dup2, close, umask, chdir, signal, sigprocmask, getpid, prctl,
/// sched_setattr, read, what `exec` lists, and _exit, all async-signal-safe (signal-safety(7)), and the bare
/// system calls setgroups, setresgid and setresuid.
extern "C" fn child_main(shared: *mut c_void) -> c_int {
    // SAFETY: the parent passes its own `ChildShared` and is suspended while we use it.
    let shared = unsafe { &mut *shared.cast::<ChildShared>() };
    if let Some(hold) = &shared.hold {
        hold.wait();
    }
    let step = match prepare_child(shared) {
        Ok(()) => {
            report(shared);
            Step::Execute(exec::execute(&shared.search))
        }
        Err(step) => step,
    };
    shared.failure = Some((step, Errno::last_raw()));
    report(shared);
    // SAFETY: ends this process without running what belongs to the parent.
    unsafe { libc::_exit(127) }
}

fn prepare_child(shared: &mut ChildShared) -> Result<(), Step> {
    if shared.new_session {
        // SAFETY: plain call; it cannot fail, because a new process leads no group.
        unsafe { libc::setsid() };
    }
    if shared.cgroup >= 0 {
        // SAFETY: the buffer is a constant of that length. "0" means the writer (cgroups(7)).
        let written = unsafe { libc::write(shared.cgroup, c"0".as_ptr().cast(), 1) };
        shared.is_in_cgroup = written == 1;
    }
    for (fd, (from, closed)) in (0..).zip(shared.standard.into_iter().zip(shared.closed)) {
        if from >= 0 {
            // SAFETY: plain integers; the copy is not close-on-exec.
            if unsafe { libc::dup2(from, fd) } < 0 {
                return Err(Step::Redirect);
            }
        } else if closed {
            // SAFETY: plain integer; what is open there is our /dev/null.
            unsafe { libc::close(fd) };
        }
    }
    if let Some(user) = shared.user
        && !user.assume()
    {
        return Err(Step::User);
    }
    if let Some(mask) = shared.umask {
        // SAFETY: plain integer; the mask is the child's own, for CLONE_FS is not set.
        unsafe { libc::umask(mask) };
    }
    // SAFETY: null or a string that ends with NUL.
    if !shared.directory.is_null() && unsafe { libc::chdir(shared.directory) } < 0 {
        return Err(Step::Directory);
    }
    restore_signals(shared);
    // SAFETY: the parent's value, which nobody changes.
    unsafe { &*shared.inherited }.restore();
    // SAFETY: the parent's buffers, which only this child writes to.
    for variable in unsafe { &mut *shared.pid_variables } {
        variable.set(std::process::id());
    }
    Ok(())
}

/// All other signals are as we were given them: nobody sets any.
fn restore_signals(shared: &ChildShared) {
    if shared.ignore_sigchld {
        // SAFETY: SIG_IGN is not a handler.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    }
    // SAFETY: the mask is the one that the parent was given.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, shared.mask, ptr::null_mut()) };
}

/// A child that failed has ended already; nobody else may learn of it.
fn reap_failed(child: &Child) {
    let mut status = 0;
    // SAFETY: the pointer is to an integer of ours; the pid is our unreaped child.
    while unsafe { libc::waitpid(child.pid.0, &raw mut status, 0) } < 0
        && Errno::last() == Errno::EINTR
    {}
}

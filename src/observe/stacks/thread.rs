//! What a thread does, as proc(5) says: its state, the system call it waits in, and where in the kernel.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::model::proc_stat;
use crate::model::syscall;
use crate::trace::registers::Registers;

/// One thread. What could not be read is empty.
pub struct ThreadState {
    pub tid: i32,
    name: String,
    state: u8,
    /// The system call that it waits in, with what it waits for.
    call: Option<String>,
    /// The function of the kernel that it sleeps in.
    kernel: String,
    /// Its program counter and stack pointer, where it does not run.
    pub registers: Option<Registers>,
    /// Whether it ran while its stack was read.
    pub has_moved: bool,
}

impl ThreadState {
    /// Returns `None` if it has ended.
    pub fn read(process: &Path, tid: i32) -> Option<ThreadState> {
        let place = process.join(format!("task/{tid}"));
        let stat = fs::read(place.join("stat")).ok()?;
        let stat = proc_stat::parse(&stat)?;
        let text = |name: &str| fs::read_to_string(place.join(name)).unwrap_or_default();
        let (kernel, syscall) = (text("wchan"), text("syscall"));
        Some(ThreadState {
            tid,
            name: String::from_utf8_lossy(stat.name).into_owned(),
            state: stat.state,
            call: call(process, &syscall),
            registers: registers(&syscall),
            has_moved: false,
            kernel: if kernel.trim() == "0" { String::new() } else { kernel.trim().to_owned() },
        })
    }

    /// Returns whether it uses a processor, or waits for one.
    pub fn is_running(&self) -> bool {
        self.state == b'R'
    }
}

/// Reads /proc/PID/syscall: a number and six arguments, or that it runs, or that it is stopped elsewhere.
fn call(process: &Path, text: &str) -> Option<String> {
    let mut fields = text.split_ascii_whitespace();
    let number: usize = fields.next()?.parse().ok()?;
    let Some(name) = syscall::name(number) else { return Some(format!("system call {number}")) };
    if !syscall::waits_for_descriptor(name) {
        return Some(name.to_owned());
    }
    let descriptor = u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()?;
    Some(match fs::read_link(process.join(format!("fd/{descriptor}"))) {
        Ok(file) => format!("{name} of descriptor {descriptor} ({})", file.display()),
        Err(_) => format!("{name} of descriptor {descriptor}"),
    })
}

/// The last two fields of /proc/PID/syscall: stack pointer and program counter.
fn registers(text: &str) -> Option<Registers> {
    let mut fields = text.split_ascii_whitespace().rev();
    let mut number = || u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok();
    let (pc, sp) = (number()?, number()?);
    Some(Registers::new(pc, sp)).filter(|_| pc != 0)
}

impl fmt::Display for ThreadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            b'R' => "runs",
            b'S' => "sleeps",
            b'D' => "sleeps and cannot be interrupted",
            b'T' => "is stopped",
            b't' => "is stopped by a tracer",
            b'Z' | b'X' => "has ended",
            b'I' => "is idle",
            _ => "is in an unknown state",
        };
        write!(f, "  thread {} ({}) {state}", self.tid, self.name)?;
        if let Some(call) = &self.call {
            write!(f, " in {call}")?;
        }
        if !self.kernel.is_empty() {
            write!(f, ", kernel function {}", self.kernel)?;
        }
        if self.has_moved {
            f.write_str("; it ran meanwhile, so its frames are not certain")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(state: &str, call: &str, wchan: &str) -> String {
        let place = tempfile::tempdir().expect("a directory");
        let task = place.path().join("task/7");
        fs::create_dir_all(&task).expect("made");
        fs::create_dir(place.path().join("fd")).expect("made");
        std::os::unix::fs::symlink("pipe:[12]", place.path().join("fd/3")).expect("linked");
        fs::write(task.join("stat"), format!("7 (a b) {state} 1 {}", "0 ".repeat(49))).expect("x");
        fs::write(task.join("syscall"), call).expect("written");
        fs::write(task.join("wchan"), wchan).expect("written");
        ThreadState::read(place.path(), 7).expect("a thread").to_string()
    }

    #[test]
    fn a_thread_is_described_by_its_state_call_and_wait() {
        let read = format!("{} 0x3 0x7ffe 0x1 0x0 0x0 0x0 0x7ffd 0x7f01", libc::SYS_read);
        assert_eq!(
            thread("S", &read, "pipe_read"),
            "  thread 7 (a b) sleeps in read of descriptor 3 (pipe:[12]), kernel function pipe_read"
        );
        let futex = format!("{} 0x3 0x0 0x0 0x0 0x0 0x0 0x7ffd 0x7f01", libc::SYS_futex);
        assert_eq!(
            thread("S", &futex, "futex_do_wait"),
            "  thread 7 (a b) sleeps in futex, kernel function futex_do_wait"
        );
        assert_eq!(thread("R", "running\n", "0"), "  thread 7 (a b) runs");
        assert_eq!(thread("T", "-1 0x7ffd 0x7f01", ""), "  thread 7 (a b) is stopped");
        assert_eq!(
            thread("D", "9999 0x0", "x"),
            "  thread 7 (a b) sleeps and cannot be interrupted in system call 9999, kernel function x"
        );
    }
}

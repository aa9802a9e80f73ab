//! Finds and executes the job, in the child: like execvp(3), but what is not a script is never given to sh.
//!
//! The child shares its parent's memory, so everything here is async-signal-safe (signal-safety(7)): it
//! calls execve, access, open, read and close only. Why an execution failed is found out by the parent
//! (`exec_failure`).

use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr;

use nix::errno::Errno;

/// The kernel reads this many bytes of a file to find out what it is (BINPRM_BUF_SIZE).
pub(super) const HEAD_BYTES: usize = 256;

/// What to execute; all of it made by the parent.
pub(super) struct Search {
    /// Whether the candidates are those of PATH.
    pub(super) is_search: bool,
    /// The files to try, null at the end.
    pub(super) candidates: *const *const c_char,
    /// A free slot, then the arguments, null at the end.
    pub(super) arguments: *mut *const c_char,
    /// Null at the end.
    pub(super) environment: *const *const c_char,
}

/// Tries the candidates. Returns only if all fail: the file that errno is about, or null if no file of that
/// name was found on PATH.
///
/// On PATH, a file that does not exist is passed over whatever the reason (also a directory whose name is
/// too long or a loop of links); one that exists and may not be executed, or whose interpreter is missing, is
/// remembered; any other failure ends the search.
pub(super) fn execute(search: &Search) -> *const c_char {
    let mut failed: *const c_char = ptr::null();
    let mut errno = Errno::ENOENT;
    let mut candidate = search.candidates;
    loop {
        // SAFETY: `candidate` points into the array, at or before its null end.
        let file = unsafe { *candidate };
        if file.is_null() {
            break;
        }
        // SAFETY: one slot lies in front of the arguments.
        let arguments = unsafe { search.arguments.add(1) };
        // SAFETY: all three are what execve(2) takes, made by the parent.
        unsafe { libc::execve(file, arguments.cast_const(), search.environment) };
        let error = Errno::last();
        if error == Errno::ENOEXEC && is_script(file) {
            execute_script(search, file);
            return file;
        }
        let is_missing = search.is_search && !exists(file);
        match error {
            _ if is_missing => {}
            Errno::EACCES => (failed, errno) = (file, error),
            Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {
                // What may not be executed says more than what is incomplete.
                if errno != Errno::EACCES {
                    (failed, errno) = (file, error);
                }
            }
            _ => {
                error.set();
                return file;
            }
        }
        // SAFETY: the entry was not the null at the end, so one more follows.
        candidate = unsafe { candidate.add(1) };
    }
    errno.set();
    failed
}

/// access(2), which is async-signal-safe.
fn exists(file: *const c_char) -> bool {
    // SAFETY: a string that ends with NUL, made by the parent.
    unsafe { libc::access(file, libc::F_OK) == 0 }
}

/// Returns whether a file that the kernel does not know how to execute may be a script for sh.
fn is_script(file: *const c_char) -> bool {
    let mut head = MaybeUninit::<[u8; HEAD_BYTES]>::uninit();
    // SAFETY: a string that ends with NUL, made by the parent.
    let fd = unsafe { libc::open(file, libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK) };
    if fd < 0 {
        // sh could not read it either.
        return false;
    }
    let length = read_head(fd, &mut head);
    // SAFETY: a descriptor of ours, not used again.
    unsafe { libc::close(fd) };
    // SAFETY: read(2) filled the first `length` bytes.
    let text = unsafe { std::slice::from_raw_parts(head.as_ptr().cast::<u8>(), length) };
    is_script_text(text)
}

fn read_head(fd: c_int, head: &mut MaybeUninit<[u8; HEAD_BYTES]>) -> usize {
    // SAFETY: the buffer is ours and of that size.
    let got = unsafe { libc::read(fd, head.as_mut_ptr().cast(), HEAD_BYTES) };
    usize::try_from(got).unwrap_or(0)
}

/// A script has no NUL byte in its first line (POSIX, shell command language, 2.9.1.4). A file that begins
/// like an ELF file is a damaged one, and one that names an interpreter is a script for that.
fn is_script_text(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let names_interpreter =
        line.strip_prefix(b"#!").is_some_and(|rest| !rest.trim_ascii().is_empty());
    !line.contains(&0) && !head.starts_with(b"\x7fELF") && !names_interpreter
}

/// Puts sh in front: `sh FILE ARGUMENTS...`. Returns only if that fails, too.
fn execute_script(search: &Search, file: *const c_char) {
    let shell = c"/bin/sh".as_ptr();
    // SAFETY: the slot in front, which is there for this.
    unsafe { *search.arguments = shell };
    // SAFETY: the slot of argument 0 lies behind the one in front.
    let slot = unsafe { search.arguments.add(1) };
    // SAFETY: a slot of the array, which nobody else looks at meanwhile.
    let name = unsafe { &mut *slot };
    let kept = std::mem::replace(name, file);
    // SAFETY: all three are what execve(2) takes.
    unsafe { libc::execve(shell, search.arguments.cast_const(), search.environment) };
    *name = kept;
    Errno::ENOEXEC.set();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_without_an_interpreter_is_for_sh() {
        for script in [&b""[..], b"exit 7\n", b"echo x\n\0\x01", b"#!\nexit 7\n", b"# !/bin/x\n"] {
            assert!(is_script_text(script), "{script:?}");
        }
        for binary in [&b"\x7fELF"[..], b"\x7fELF\x02\x01\0", b"MZ\0", b"#!/bin/perl\n", b"#! x"] {
            assert!(!is_script_text(binary), "{binary:?}");
        }
    }
}

//! Where a child failed, and how it says so to a parent that does not share its memory.

use std::ffi::{c_char, c_int};
use std::ptr;

/// What a child did when it failed.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// Found out by the parent.
    Trace,
    Redirect,
    User,
    Directory,
    /// Of that file, or null if there was none.
    Execute(*const c_char),
}

/// What a child found out, in numbers; the parent has the same addresses.
pub(super) type ChildReport = [usize; 3];

/// Makes a report of what is known so far. It neither allocates nor fails.
pub(super) fn report(is_in_cgroup: bool, failure: Option<(Step, c_int)>) -> ChildReport {
    let (code, file, errno) = match failure {
        None => (0, ptr::null(), 0),
        Some((Step::Trace, errno)) => (1, ptr::null(), errno),
        Some((Step::Redirect, errno)) => (2, ptr::null(), errno),
        Some((Step::User, errno)) => (3, ptr::null(), errno),
        Some((Step::Directory, errno)) => (4, ptr::null(), errno),
        Some((Step::Execute(file), errno)) => (5, file, errno),
    };
    let code = code << 1 | usize::from(is_in_cgroup);
    [code, file.expose_provenance(), errno.unsigned_abs() as usize]
}

/// Reads a report.
pub(super) fn read_report([code, file, errno]: ChildReport) -> (bool, Option<(Step, c_int)>) {
    let errno = c_int::try_from(errno).unwrap_or(libc::EIO);
    let failure = match code >> 1 {
        0 => None,
        2 => Some((Step::Redirect, errno)),
        3 => Some((Step::User, errno)),
        4 => Some((Step::Directory, errno)),
        5 => Some((Step::Execute(ptr::with_exposed_provenance(file)), errno)),
        _ => Some((Step::Trace, errno)),
    };
    (code & 1 == 1, failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_made() {
        let file = c"/bin/sh".as_ptr();
        let steps = [Step::Trace, Step::Redirect, Step::User, Step::Directory, Step::Execute(file)];
        for (is_in_cgroup, step) in [true, false].into_iter().zip(steps.iter().cycle()).take(10) {
            let (known, failure) = read_report(report(is_in_cgroup, Some((*step, libc::ENOENT))));
            let (read, errno) = failure.expect("it failed");
            assert_eq!((known, errno), (is_in_cgroup, libc::ENOENT));
            assert_eq!(std::mem::discriminant(&read), std::mem::discriminant(step));
            if let Step::Execute(read) = read {
                assert_eq!(read, file);
            }
        }
        assert!(matches!(read_report(report(true, None)), (true, None)));
    }
}

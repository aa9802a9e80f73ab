//! The program's own code in memory.

use std::ffi::{c_char, c_void};

use nix::unistd::{SysconfVar, sysconf};

// Set by the linker: where the program begins, and where its code ends. Constants lie between or
// behind; what may be written always lies behind.
unsafe extern "C" {
    static __executable_start: c_char;
    static etext: c_char;
}

/// Gives back the memory of code that only the start has needed: most of the program is for what a
/// run may never do, and the kernel maps it in larger pieces than are used. What is needed again
/// comes back by itself, from the page cache. Nothing of ours is lost: code is never written.
pub fn give_back_code() {
    let page = match sysconf(SysconfVar::PAGE_SIZE) {
        Ok(Some(page)) => usize::try_from(page).unwrap_or(usize::MAX),
        _ => return,
    };
    let begin = (&raw const __executable_start).addr();
    let end = (&raw const etext).addr();
    let begin = begin.next_multiple_of(page);
    // The page of the end may hold what is written.
    let length = (end / page * page).saturating_sub(begin);
    // SAFETY: the range holds whole pages of the program's file that are mapped privately and never
    // written, so dropping them loses nothing (madvise(2), MADV_DONTNEED).
    unsafe { libc::madvise(begin as *mut c_void, length, libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resident memory from files, in KiB (`RssFile` in proc(5)).
    fn resident_of_files() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("our status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.expect("a number")
    }

    #[test]
    fn code_that_is_given_back_still_runs() {
        // Other tests run in this process meanwhile, and need code of theirs.
        let has_fallen = (0..1000).any(|_| {
            let before = resident_of_files();
            give_back_code();
            resident_of_files() < before
        });
        assert!(has_fallen);
        assert_eq!("12".parse::<i32>(), Ok(12));
    }
}

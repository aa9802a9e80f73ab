//! Our own environment (environ(7)), read in place: std makes two strings of each variable, which
//! at start-up costs more than all else that we do with them.

use std::ffi::{CStr, c_char};

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Returns the entries, `NAME=value`.
pub fn entries() -> impl Iterator<Item = &'static [u8]> {
    strings().map(CStr::to_bytes)
}

/// Returns the entries as the C library has them.
pub(super) fn strings() -> impl Iterator<Item = &'static CStr> {
    // SAFETY: nobody changes the environment: `set_var` is unsafe and never called here.
    let mut entry = unsafe { environ };
    std::iter::from_fn(move || {
        if entry.is_null() {
            return None;
        }
        // SAFETY: `entry` points into the array, at or before its null end.
        let text = unsafe { *entry };
        if text.is_null() {
            return None;
        }
        // SAFETY: the entry was not the null at the end, so one more follows.
        entry = unsafe { entry.add(1) };
        // SAFETY: each entry is a string that ends with NUL and stays where it is.
        Some(unsafe { CStr::from_ptr(text) })
    })
}

/// Variables by which a service manager says which process it means (sd_listen_fds(3),
/// sd_watchdog_enabled(3)), with what else names the same process.
const NAMING_A_PROCESS: [(&str, &str); 2] =
    [("LISTEN_PID", "LISTEN_PIDFDID"), ("WATCHDOG_PID", "WATCHDOG_PIDFDID")];

/// No pid has more digits.
const DIGITS: usize = 10;

/// A variable whose value is to be the pid of the process that gets it.
pub(super) struct PidVariable {
    /// `NAME=`, then room for a number that ends with NUL.
    text: Vec<u8>,
    /// The length of the name and `=`.
    name_length: usize,
    /// `NAME=` of what names us in another way, and has no place beside it.
    companion: String,
    /// As it names us.
    ours: String,
}

/// Returns those variables that would name us.
pub(super) fn pid_variables() -> Vec<PidVariable> {
    let naming = |(name, companion): (&str, &str)| {
        let mut text = format!("{name}=").into_bytes();
        let name_length = text.len();
        text.resize(name_length + DIGITS + 1, 0);
        let ours = format!("{name}={}", std::process::id());
        PidVariable { text, name_length, companion: format!("{companion}="), ours }
    };
    let is_there = |one: &PidVariable| entries().any(|entry| entry == one.ours.as_bytes());
    // Most environments have none: it costs them one look at each entry.
    let is_possible =
        |entry: &[u8]| NAMING_A_PROCESS.iter().any(|(name, _)| entry.starts_with(name.as_bytes()));
    if !entries().any(is_possible) {
        return Vec::new();
    }
    NAMING_A_PROCESS.into_iter().map(naming).filter(is_there).collect()
}

impl PidVariable {
    /// Returns whether that entry is no longer true.
    pub(super) fn replaces(&self, entry: &CStr) -> bool {
        let entry = entry.to_bytes();
        entry == self.ours.as_bytes() || entry.starts_with(self.companion.as_bytes())
    }

    /// The entry, `NAME=value`.
    pub(super) fn as_ptr(&self) -> *const c_char {
        self.text.as_ptr().cast()
    }

    /// Puts a pid in. It neither allocates nor locks.
    pub(super) fn set(&mut self, pid: u32) {
        let mut rest = pid;
        let mut digits = [0_u8; DIGITS];
        let mut length = 0;
        while length == 0 || rest > 0 {
            let digit = u8::try_from(rest % 10).unwrap_or(0);
            if let Some(place) = digits.get_mut(length) {
                *place = b'0' + digit;
            }
            length += 1;
            rest /= 10;
        }
        let value = self.text.iter_mut().skip(self.name_length);
        let digits = digits.iter().take(length).rev().copied().chain(std::iter::once(0));
        value.zip(digits).for_each(|(to, from)| *to = from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_pid_is_put_in_whole_whatever_was_there() {
        let text = [&b"LISTEN_PID="[..], &[0; DIGITS + 1]].concat();
        let mut variable =
            PidVariable { text, name_length: 11, companion: String::new(), ours: String::new() };
        for pid in [u32::MAX, 4_194_304, 1000, 7, 0] {
            variable.set(pid);
            // SAFETY: it ends with NUL, which the buffer has room for.
            let entry = unsafe { CStr::from_ptr(variable.as_ptr()) };
            assert_eq!(entry.to_str(), Ok(&*format!("LISTEN_PID={pid}")));
        }
    }

    #[test]
    fn it_has_what_std_finds() {
        let ours: Vec<&[u8]> = entries().collect();
        for (name, value) in std::env::vars_os() {
            let entry = [name.as_bytes(), b"=", value.as_bytes()].concat();
            assert!(ours.contains(&entry.as_slice()), "{name:?}");
        }
    }
}

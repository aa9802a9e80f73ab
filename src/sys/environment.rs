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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn it_has_what_std_finds() {
        let ours: Vec<&[u8]> = entries().collect();
        for (name, value) in std::env::vars_os() {
            let entry = [name.as_bytes(), b"=", value.as_bytes()].concat();
            assert!(ours.contains(&entry.as_slice()), "{name:?}");
        }
    }
}

//! The strings that execve(2) takes: made by the parent, because the child must not allocate.

use std::ffi::{CStr, CString, OsString, c_char};
use std::os::unix::ffi::OsStringExt;
use std::ptr;

use crate::sys::environment::{self, PidVariable};

/// Cuts at a NUL byte, which the plan does not let through.
pub(super) fn to_c_string(text: OsString) -> CString {
    let mut bytes = text.into_vec();
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    CString::new(bytes).unwrap_or_default()
}

/// Our environment with some variables added or replaced. The strings that are ours live as long
/// as the result.
pub(super) struct Environment {
    kept: Vec<*const c_char>,
    added: Vec<CString>,
    /// Those that name us as the process that is meant: the child puts its own pid in.
    pub(super) pid_variables: Vec<PidVariable>,
}

impl Environment {
    pub(super) fn as_slice(&self) -> (&[*const c_char], &[CString]) {
        (&self.kept, &self.added)
    }
}

pub(super) fn extended(additions: &[(String, Option<String>)]) -> Environment {
    let is_kept = |entry: &&CStr| {
        let bytes = entry.to_bytes();
        !additions.iter().any(|(name, _)| {
            bytes.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'='))
        })
    };
    let mut pid_variables = environment::pid_variables();
    pid_variables
        .retain(|one| environment::strings().any(|entry| one.replaces(entry) && is_kept(&entry)));
    let is_replaced = |entry: &&CStr| pid_variables.iter().any(|one| one.replaces(entry));
    let mut kept: Vec<_> = environment::strings()
        .filter(|entry| is_kept(entry) && !is_replaced(entry))
        .map(CStr::as_ptr)
        .collect();
    kept.extend(pid_variables.iter().map(PidVariable::as_ptr));
    let added = additions
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
        .map(|entry| to_c_string(OsString::from(entry)))
        .collect();
    Environment { kept, added, pid_variables }
}

/// A null-terminated array of pointers, as execve(2) takes it.
pub(super) trait Pointers {
    fn list(&self) -> Vec<*const c_char>;
}

impl Pointers for &Vec<CString> {
    fn list(&self) -> Vec<*const c_char> {
        self.iter().map(|text| text.as_ptr()).collect()
    }
}

impl Pointers for (&[*const c_char], &[CString]) {
    fn list(&self) -> Vec<*const c_char> {
        let mut list = self.0.to_vec();
        list.extend(self.1.iter().map(|text| text.as_ptr()));
        list
    }
}

pub(super) fn pointers(texts: impl Pointers) -> Vec<*const c_char> {
    let mut list = texts.list();
    list.push(ptr::null());
    list
}

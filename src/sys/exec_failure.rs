//! Why the kernel would not execute a file, in words. Reads files, each to a bound, after the failure.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access, getuid};

use crate::model::elf::{self, Elf};
use crate::sys::exec::HEAD_BYTES;

/// The kernel follows this many interpreters that are scripts themselves.
const DEPTH_MAX: usize = 5;

/// No single argument or variable is longer (MAX_ARG_STRLEN in execve(2)).
const STRING_BYTES: usize = 32 * 4096;

/// Explains why execve(2) of a file failed with `errno`; `None` if the error's own words say it all.
pub(super) fn explain(file: &Path, errno: Errno) -> Option<String> {
    explain_nested(file, errno, DEPTH_MAX)
}

fn explain_nested(file: &Path, errno: Errno, depth: usize) -> Option<String> {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR if fs::metadata(file).is_err() => missing_part(file),
        Errno::ENOENT | Errno::ENOTDIR => incomplete(file, depth),
        Errno::EACCES | Errno::EPERM => denied(file, depth),
        Errno::ENOEXEC => no_format(file, depth),
        Errno::ELIBBAD => loader_of(file)
            .map(|loader| format!("its dynamic loader '{}' is damaged", loader.display())),
        Errno::EISDIR => Some("its interpreter or dynamic loader is a directory".to_owned()),
        Errno::ELOOP if fs::metadata(file).is_err() => {
            Some(format!("a part of '{}' is a loop of symbolic links", file.display()))
        }
        Errno::ELOOP => Some("its interpreter is a script, and so on, too many times".to_owned()),
        Errno::ETXTBSY => Some("it is still open for writing".to_owned()),
        Errno::ESTALE => {
            Some("the server of its network filesystem has removed or replaced it".to_owned())
        }
        Errno::EAGAIN => Some(too_many_processes()),
        _ => None,
    }
}

/// Says where a name was looked for in vain.
pub(super) fn not_on_path(path: &OsStr) -> String {
    let shown: String = path.to_string_lossy().chars().take(300).collect();
    let more = if shown.len() < path.len() { "..." } else { "" };
    format!("no directory of PATH has it ({shown}{more})")
}

/// Names the first part of a path that is not there; `None` if only the file itself is missing.
fn missing_part(file: &Path) -> Option<String> {
    let mut parts: Vec<&Path> =
        file.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    parts.reverse();
    for part in parts {
        match fs::symlink_metadata(part) {
            Ok(meta) if meta.is_symlink() && fs::metadata(part).is_err() => {
                let target = fs::read_link(part).unwrap_or_default();
                return Some(format!(
                    "'{}' is a symbolic link to '{}', which does not exist",
                    part.display(),
                    target.display()
                ));
            }
            Ok(_) if part != file && !part.is_dir() => {
                return Some(format!("'{}' is not a directory", part.display()));
            }
            Ok(_) => {}
            Err(_) if part == file => return None,
            Err(_) => return Some(format!("the directory '{}' does not exist", part.display())),
        }
    }
    None
}

/// The file is there, and what it needs to run is not.
fn incomplete(file: &Path, depth: usize) -> Option<String> {
    if let Some(interpreter) = interpreter_of(file) {
        let shown = interpreter.to_string_lossy().into_owned();
        let mut text = format!("the interpreter '{shown}' in its first line ");
        if let Some(bare) = shown.strip_suffix('\r') {
            write!(text, "does not exist: the line ends with CR LF, '{bare}' is meant").ok()?;
        } else if fs::metadata(&interpreter).is_ok() && depth > 0 {
            let why = explain_nested(&interpreter, Errno::ENOENT, depth - 1)?;
            write!(text, "cannot run: {why}").ok()?;
        } else {
            text.push_str("does not exist");
        }
        return Some(text);
    }
    let loader = loader_of(file)?;
    Some(format!(
        "its dynamic loader '{}' does not exist: it was made for another system or C library",
        loader.display()
    ))
}

fn denied(file: &Path, depth: usize) -> Option<String> {
    let Ok(meta) = fs::metadata(file) else {
        let closed = file.ancestors().skip(1).filter(|part| !part.as_os_str().is_empty());
        let closed =
            closed.filter(|part| part.is_dir() && access(*part, AccessFlags::X_OK).is_err());
        let closed = closed.last()?;
        return Some(format!("the directory '{}' may not be searched", closed.display()));
    };
    if meta.is_dir() {
        return Some("it is a directory".to_owned());
    }
    if !meta.is_file() {
        return Some("it is not a regular file".to_owned());
    }
    let is_noexec = |flags: FsFlags| flags.contains(FsFlags::ST_NOEXEC);
    if statvfs(file).is_ok_and(|filesystem| is_noexec(filesystem.flags())) {
        return Some("its filesystem is mounted noexec".to_owned());
    }
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o111 == 0 {
        return Some(format!("it is not executable (mode {mode:04o}; chmod +x)"));
    }
    if access(file, AccessFlags::X_OK).is_err() {
        let (uid, owner) = (getuid(), meta.uid());
        return Some(format!("user {uid} may not execute it (mode {mode:04o}, owner {owner})"));
    }
    let interpreter = interpreter_of(file).or_else(|| loader_of(file))?;
    let why = if depth > 0 { explain_nested(&interpreter, Errno::EACCES, depth - 1) } else { None };
    let why = why.unwrap_or_else(|| "permission denied".to_owned());
    Some(format!("its interpreter '{}' cannot be executed: {why}", interpreter.display()))
}

/// Neither an ELF file that this kernel runs nor a script.
fn no_format(file: &Path, depth: usize) -> Option<String> {
    let head = head_of(file)?;
    if let Some(interpreter) = interpreter_of(file) {
        if !head.contains(&b'\n') && head.len() == HEAD_BYTES {
            return Some(format!("its first line is longer than {} bytes", HEAD_BYTES - 1));
        }
        let why = if depth > 0 { no_format(&interpreter, depth - 1) } else { None };
        let why = why.unwrap_or_else(|| "it is not a program".to_owned());
        return Some(format!(
            "its interpreter '{}' cannot be executed: {why}",
            interpreter.display()
        ));
    }
    if !head.starts_with(elf::MAGIC) {
        return Some("a binary file in no format that this kernel executes".to_owned());
    }
    let length = fs::metadata(file).ok()?.len();
    let Some(found) = Elf::parse(&head) else {
        return Some(format!("the ELF file is truncated: it has {length} bytes"));
    };
    let ours = head_of(Path::new("/proc/self/exe")).and_then(|head| Elf::parse(&head));
    if let Some(ours) = ours.filter(|ours| ours.machine != found.machine) {
        return Some(format!(
            "it is for another architecture: {}; this machine is {}",
            elf::machine_name(found.machine),
            elf::machine_name(ours.machine)
        ));
    }
    if length < found.headers_end() {
        let least = found.headers_end();
        return Some(format!(
            "the ELF file is truncated: it has {length} of at least {least} bytes"
        ));
    }
    Some("the ELF file is damaged, or none that can be executed".to_owned())
}

/// Explains E2BIG by the sizes of the strings that were given to execve(2).
pub(super) fn too_big(arguments: &[usize], environment: &[usize]) -> String {
    if let Some(longest) = arguments.iter().chain(environment).max().filter(|n| **n > STRING_BYTES)
    {
        return format!(
            "one argument or variable has {longest} bytes, the limit is {STRING_BYTES}"
        );
    }
    // Each string has its pointer (execve(2), "Limits on size of arguments and environment").
    let size = |lengths: &[usize]| lengths.iter().map(|length| length + size_of::<usize>()).sum();
    let (arguments, environment): (usize, usize) = (size(arguments), size(environment));
    let stack = getrlimit(Resource::RLIMIT_STACK).map_or(u64::MAX, |(soft, _)| soft);
    let limit = (stack / 4).clamp(128 << 10, 6 << 20);
    format!(
        "the arguments have {arguments} bytes and the environment {environment}, the limit for \
         both is {limit}"
    )
}

/// Explains EAGAIN of clone(2) and execve(2).
pub(super) fn too_many_processes() -> String {
    let uid = getuid();
    match getrlimit(Resource::RLIMIT_NPROC) {
        Ok((soft, _)) if soft != libc::RLIM_INFINITY && !uid.is_root() => {
            format!(
                "RLIMIT_NPROC is {soft} (ulimit -u), and user {uid} may have no more processes and \
                 threads"
            )
        }
        _ => "the limit of processes and threads of its cgroup (pids.max) or of the machine \
              (kernel.threads-max) is reached"
            .to_owned(),
    }
}

fn head_of(file: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    open(file)?.take(HEAD_BYTES as u64).read_to_end(&mut head).ok()?;
    Some(head)
}

/// Opens a regular file only: another kind could block.
fn open(file: &Path) -> Option<File> {
    fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
    File::open(file).ok()
}

/// Returns what `#!` names, as the kernel reads it: up to a blank, which a carriage return is not.
fn interpreter_of(file: &Path) -> Option<PathBuf> {
    let head = head_of(file)?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| matches!(*byte, b' ' | b'\t' | 0));
    let word = words.find(|word| !word.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(word)))
}

/// Returns the dynamic loader that an ELF file names (PT_INTERP in elf(5)).
fn loader_of(file: &Path) -> Option<PathBuf> {
    let found = Elf::parse(&head_of(file)?)?;
    let file = open(file)?;
    let loader = found.loader(|bytes, offset| file.read_exact_at(bytes, offset).ok())?;
    Some(PathBuf::from(OsStr::from_bytes(&loader)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_missing_part_is_named() {
        let place = tempfile::tempdir().expect("a directory");
        let at = |name: &str| place.path().join(name);
        fs::write(at("file"), "").expect("written");
        std::os::unix::fs::symlink("nowhere", at("link")).expect("a link");
        let why = |name: &str| explain(&at(name), Errno::ENOENT).unwrap_or_default();
        assert_eq!(why("missing"), "");
        assert!(why("no/such").ends_with("/no' does not exist"), "{}", why("no/such"));
        assert!(why("file/x").ends_with("/file' is not a directory"), "{}", why("file/x"));
        assert!(why("link").contains("a symbolic link to 'nowhere'"), "{}", why("link"));
    }

    #[test]
    fn the_interpreter_is_read_as_the_kernel_reads_it() {
        let place = tempfile::tempdir().expect("a directory");
        let job = place.path().join("job");
        for (text, interpreter) in [
            ("#! /bin/perl -w\n", Some("/bin/perl")),
            ("#!/bin/sh\r\n", Some("/bin/sh\r")),
            ("#!\n", None),
            ("echo\n", None),
        ] {
            fs::write(&job, text).expect("written");
            assert_eq!(interpreter_of(&job), interpreter.map(PathBuf::from), "{text:?}");
        }
    }

    #[test]
    fn a_damaged_or_foreign_elf_file_is_not_taken_for_another_binary() {
        let place = tempfile::tempdir().expect("a directory");
        let job = place.path().join("job");
        let ours = fs::read("/proc/self/exe").expect("ourselves");
        let mut foreign = ours[..4096].to_vec();
        foreign[18..20].copy_from_slice(&[0xff, 0xff]);
        for (bytes, word) in [
            (&ours[..20], "truncated"),
            (&ours[..64], "truncated"),
            (&foreign[..], "another architecture: machine 65535"),
            (b"GIF\0", "a binary file"),
        ] {
            fs::write(&job, bytes).expect("written");
            let why = explain(&job, Errno::ENOEXEC).unwrap_or_default();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn what_is_too_big_is_named() {
        assert!(too_big(&[5, 200_000], &[9]).contains("has 200000 bytes"));
        assert!(too_big(&[5, 7], &[9]).contains("arguments have 28 bytes and the environment 17"));
    }
}

//! The signature of a crash: the same for the same crash in another run and at another load address.

use std::fmt::Write as _;

use crate::model::crash::CrashFrame;
use crate::model::signal::Signal;

/// This number of frames below those of the abort counts: deeper ones say how the program came there.
const FRAMES_MAX: usize = 5;

/// Functions that only carry out an abort that something else asked for.
const OF_ABORT: [&str; 25] = [
    "raise",
    "abort",
    "gsignal",
    "kill",
    "__kill",
    "pthread_kill",
    "__pthread_kill",
    "__pthread_kill_implementation",
    "__pthread_kill_internal",
    "__assert_fail",
    "__assert_fail_base",
    "__assert_perror_fail",
    "__assert",
    "__libc_message",
    "malloc_printerr",
    "__fortify_fail",
    "__chk_fail",
    "__stack_chk_fail",
    "__restore_rt",
    "__restore",
    "free",
    "cfree",
    "_int_free",
    "rust_begin_unwind",
    "__rust_start_panic",
];
const OF_ABORT_PREFIXES: [&str; 18] = [
    "core::panicking::",
    "core::result::unwrap_failed",
    "core::option::",
    "std::panicking",
    "std::process::",
    "std::sys::",
    "std::rt::",
    "std::terminate",
    "__cxxabiv1::",
    "__gnu_cxx::__verbose_terminate",
    "__gxx_personality",
    "__cxa_",
    "_Unwind_",
    "__rustc",
    "__libc_free",
    "__GI_",
    "runtime.raise",
    "runtime.dieFromSignal",
];
/// Modules whose functions without a name are those of an abort, too: the C library without symbols.
const C_LIBRARIES: [&str; 6] = ["libc.so", "libc-", "libpthread", "ld-", "libstdc++", "libgcc_s"];

/// What gcc and LLVM put behind the name of a part or a copy of a function.
const SUFFIXES: [&str; 6] = [".constprop.", ".part.", ".isra.", ".cold", ".lto_priv.", ".llvm."];

/// Returns the name of the function that this is a part or a copy of.
fn whole(function: &str) -> &str {
    let ends = SUFFIXES.iter().filter_map(|suffix| function.find(suffix));
    ends.min().and_then(|end| function.get(..end)).unwrap_or(function)
}

/// Returns whether a function only carries out an abort.
pub fn is_of_abort(function: &str) -> bool {
    let function = whole(function);
    OF_ABORT.contains(&function)
        || OF_ABORT_PREFIXES.iter().any(|prefix| function.starts_with(prefix))
}

/// Returns whether a module is of the C library or its kind.
pub fn is_c_library(module: &str) -> bool {
    C_LIBRARIES.iter().any(|name| module.starts_with(name))
}

/// What of a frame is in a signature.
pub struct SignatureFrame<'a> {
    pub frame: &'a CrashFrame,
    pub build_id: Option<&'a str>,
    /// Whether it was found by something better than a scan of the stack.
    pub is_certain: bool,
    /// Whether the module is code that was made at run time, whose addresses differ from run to run.
    pub is_anonymous: bool,
}

/// Returns the signature: 16 hexadecimal digits, or nothing if no frame says where it was.
///
/// A function counts by its name, and one without a name by build id and offset. Guessed frames do not count, and
/// a function that calls itself counts once: the depth of a recursion does not matter. `main` is the last one.
pub fn signature<'a>(signal: Signal, frames: impl Iterator<Item = SignatureFrame<'a>>) -> String {
    let mut parts: Vec<String> = Vec::new();
    // Behind a gap are the frames that began the program, and how many fit before it depends on time.
    let frames = frames.take_while(|one| one.frame.skipped == 0);
    for one in frames.filter(|one| one.is_certain) {
        let part = match &one.frame.function {
            Some(function) => whole(function).to_owned(),
            None if one.is_anonymous || is_c_library(&one.frame.module) => continue,
            None => {
                let module = one.build_id.unwrap_or(&one.frame.module);
                format!("{module}+{:x}", one.frame.offset)
            }
        };
        if parts.is_empty() && one.frame.is_of_abort {
            continue;
        }
        let is_main = part == "main";
        if parts.last() != Some(&part) {
            parts.push(part);
        }
        if parts.len() >= FRAMES_MAX || is_main {
            break;
        }
    }
    if parts.is_empty() {
        return String::new();
    }
    let mut text = signal.to_string();
    // Writing to a String does not fail.
    parts.iter().for_each(|part| write!(text, "\0{part}").unwrap_or(()));
    format!("{:016x}", fnv_1a(text.as_bytes()))
}

/// FNV-1a with 64 bits: a collision harms nobody, and it is the same on all machines.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(module: &str, function: Option<&str>, offset: u64) -> CrashFrame {
        CrashFrame {
            number: 0,
            module: module.to_owned(),
            offset,
            function: function.map(str::to_owned),
            function_offset: 0,
            source: "call frame information",
            repeated: 1,
            skipped: 0,
            is_of_abort: function.is_some_and(is_of_abort),
        }
    }

    fn of(frames: &[CrashFrame]) -> String {
        let frames = frames.iter().map(|frame| SignatureFrame {
            frame,
            build_id: Some("0123"),
            is_certain: frame.source != "guessed",
            is_anonymous: frame.module == "anonymous code",
        });
        signature(Signal::ABRT, frames)
    }

    #[test]
    fn the_way_to_the_abort_does_not_count() {
        let direct = [frame("prog", Some("parse"), 1), frame("prog", Some("main"), 2)];
        let aborted = [
            frame("libc.so.6", None, 99),
            frame("libc.so.6", Some("__pthread_kill_implementation.constprop.0"), 3),
            frame("libc.so.6", Some("abort"), 4),
            frame("prog", Some("parse.part.0"), 5),
            frame("prog", Some("parse"), 6),
            frame("prog", Some("main"), 7),
            frame("libc.so.6", Some("__libc_start_main"), 8),
        ];
        assert_eq!(of(&direct), of(&aborted));
        assert_eq!(of(&direct).len(), 16);
        let other = [frame("prog", Some("read"), 1), frame("prog", Some("main"), 2)];
        assert_ne!(of(&direct), of(&other));
    }

    #[test]
    fn without_names_build_id_and_offset_count() {
        let one = of(&[frame("prog", None, 0x10), frame("prog", None, 0x20)]);
        assert_eq!(one, of(&[frame("renamed", None, 0x10), frame("prog", None, 0x20)]));
        assert_ne!(one, of(&[frame("prog", None, 0x11), frame("prog", None, 0x20)]));
    }

    #[test]
    fn what_differs_from_run_to_run_does_not_count() {
        let guess = CrashFrame { source: "guessed", ..frame("prog", Some("x"), 1) };
        let code = frame("anonymous code", None, 0x7f00);
        let known = frame("prog", Some("parse"), 1);
        assert_eq!(of(&[guess.clone(), code.clone(), known.clone()]), of(&[known]));
        assert_eq!(of(&[guess, code]), "");
    }
}

//! From `_PyRuntime` to the frames of each thread.

use crate::trace::memory::Memory;
use crate::trace::python::frames::{PythonFrame, PythonStacks, PythonThread, PythonUnknown};
use crate::trace::python::interpreter::Interpreter;
use crate::trace::python::layout::{LineTable, PublishedLayout, PythonLayout, fixed, published};
use crate::trace::python::lines::line;

/// Lists in damaged memory may be rings: this many of each are followed.
const INTERPRETERS_MAX: usize = 16;
const THREADS_MAX: usize = 256;
const FRAMES_MAX: usize = 64;
/// Frames of the interpreter's own stand between those of functions.
const STEPS_MAX: usize = 4 * FRAMES_MAX;
/// All threads together: a service may have hundreds of deep ones.
const FRAMES_IN_ALL: usize = 4096;

/// The longest names and tables that are read, in characters and bytes.
const TEXT_MAX: u64 = 512;
const TABLE_BYTES_MAX: u64 = 64 << 10;

/// Where glibc has the kernel's number of a thread in its `struct pthread`.
const TID_IN_PTHREAD: u64 = if cfg!(target_arch = "x86_64") { 720 } else { 208 };

/// Reads the frames of all threads. `is_thread` says whether a number is that of a thread of the process.
///
/// # Errors
///
/// The version is not known, or there is no interpreter that can be read.
pub fn stacks(
    interpreter: &Interpreter,
    memory: &dyn Memory,
    is_thread: &dyn Fn(u64) -> bool,
) -> Result<PythonStacks, PythonUnknown> {
    let runtime = interpreter.runtime;
    let (version, layout) = match published(runtime, memory) {
        PublishedLayout::Known(version, layout) => (dotted(version), *layout),
        PublishedLayout::Unknown(version) => return Err(PythonUnknown::Version(dotted(version))),
        PublishedLayout::Nothing => {
            let minor = interpreter.minor.ok_or(PythonUnknown::Unreadable)?;
            let version = format!("3.{minor}");
            match fixed(minor) {
                Some(layout) => (version, layout),
                None if minor < 13 => return Err(PythonUnknown::Version(version)),
                None => return Err(PythonUnknown::Unreadable),
            }
        }
    };
    let walk = InterpreterWalk { layout: &layout, memory };
    let mut threads = walk.threads(runtime).ok_or(PythonUnknown::Unreadable)?;
    for thread in &mut threads {
        let known = thread.tid.filter(|tid| *tid != 0);
        thread.tid = known.or_else(|| {
            let tid = memory.half(thread.pthread.checked_add(TID_IN_PTHREAD)?)?;
            Some(u64::from(tid)).filter(|tid| is_thread(*tid))
        });
    }
    Ok(PythonStacks { version, threads })
}

/// `PY_VERSION_HEX` as people write it.
fn dotted(version: u32) -> String {
    format!("{}.{}.{}", version >> 24, (version >> 16) & 0xff, (version >> 8) & 0xff)
}

struct InterpreterWalk<'a> {
    layout: &'a PythonLayout,
    memory: &'a dyn Memory,
}

impl InterpreterWalk<'_> {
    /// Reads the word of a field.
    fn word(&self, object: u64, field: u64) -> Option<u64> {
        self.memory.word(object.checked_add(field)?)
    }

    fn number(&self, object: u64, field: u64) -> Option<i64> {
        let half = self.memory.half(object.checked_add(field)?)?;
        Some(i64::from(half.cast_signed()))
    }

    /// Follows a list from a field of `holder` on.
    fn list(&self, (holder, first): (u64, u64), next: u64, most: usize) -> Option<Vec<u64>> {
        let mut at = self.word(holder, first)?;
        let mut found = Vec::new();
        while at != 0 && found.len() < most && !found.contains(&at) {
            found.push(at);
            at = self.word(at, next).unwrap_or(0);
        }
        Some(found)
    }

    fn threads(&self, runtime: u64) -> Option<Vec<PythonThread>> {
        let layout = self.layout;
        let interpreters = (runtime, layout.interpreters);
        let mut found = Vec::new();
        let mut left = FRAMES_IN_ALL;
        for interpreter in self.list(interpreters, layout.interpreter_next, INTERPRETERS_MAX)? {
            let threads = (interpreter, layout.interpreter_threads);
            for thread in self.list(threads, layout.thread_next, THREADS_MAX).into_iter().flatten()
            {
                let (frames, is_cut) = self.frames(thread, FRAMES_MAX.min(left));
                left -= frames.len();
                found.push(PythonThread {
                    tid: layout.thread_tid.and_then(|field| self.word(thread, field)),
                    pthread: self.word(thread, layout.thread_pthread).unwrap_or(0),
                    frames,
                    is_cut,
                });
                if found.len() >= THREADS_MAX {
                    return Some(found);
                }
            }
        }
        Some(found)
    }

    /// Returns at most that many frames, and whether there are more.
    fn frames(&self, thread: u64, most: usize) -> (Vec<PythonFrame>, bool) {
        /// From here on the interpreter made a frame for itself (`FRAME_OWNED_BY_CSTACK` and behind).
        const OWNED_BY_C: u8 = 3;
        let layout = self.layout;
        let mut frame = self.word(thread, layout.thread_frame).unwrap_or(0);
        if let Some(field) = layout.c_frame.filter(|_| frame != 0) {
            frame = self.word(frame, field).unwrap_or(0);
        }
        let mut found = Vec::new();
        for _ in 0..STEPS_MAX {
            if frame == 0 {
                return (found, false);
            }
            if found.len() >= most {
                break;
            }
            let owner = layout.frame_owner.and_then(|field| frame.checked_add(field));
            let owner = owner.and_then(|at| self.memory.byte(at)).unwrap_or(0);
            if owner < OWNED_BY_C {
                found.extend(self.frame(frame));
            }
            frame = self.word(frame, layout.frame_previous).unwrap_or(0);
        }
        (found, true)
    }

    fn frame(&self, frame: u64) -> Option<PythonFrame> {
        /// Since 3.14 a reference has marks in its lowest bits.
        const MARKS: u64 = 7;
        let layout = self.layout;
        let code = self.word(frame, layout.frame_code)? & !MARKS;
        let at = match layout.lines {
            LineTable::Lnotab => self.number(frame, layout.frame_instruction)?,
            LineTable::Pairs => self.number(frame, layout.frame_instruction)? * 2,
            LineTable::Locations => {
                let begin = code.wrapping_add(layout.code_instructions);
                self.word(frame, layout.frame_instruction)?.wrapping_sub(begin).cast_signed()
            }
        };
        let first = self.number(code, layout.code_first_line)?;
        let table = self.table(self.word(code, layout.code_lines)?)?;
        Some(PythonFrame {
            file: self.text(self.word(code, layout.code_file)?)?,
            function: self.text(self.word(code, layout.code_name)?)?,
            line: line(&table, layout.lines, first, at),
        })
    }

    /// Reads an object of type `bytes`.
    fn table(&self, object: u64) -> Option<Vec<u8>> {
        let size = self.word(object, self.layout.bytes_size)?.min(TABLE_BYTES_MAX);
        let value = object.checked_add(self.layout.bytes_value)?;
        self.memory.bytes(value, usize::try_from(size).ok()?)
    }

    /// Reads an object of type `str`.
    fn text(&self, object: u64) -> Option<String> {
        let layout = self.layout;
        let state = self.memory.half(object.checked_add(layout.text_state)?)?;
        // Free-threaded builds have eight bits for "interned" where the others have two or three.
        let state = state >> if layout.is_free_threaded { 8 } else { 2 };
        let (kind, is_compact, is_ascii) = (state & 7, state & 8 != 0, state & 16 != 0);
        if !is_compact {
            return None;
        }
        let length = self.word(object, layout.text_length)?.min(TEXT_MAX);
        let value = object.checked_add(layout.text_ascii)?;
        if is_ascii {
            let bytes = self.memory.bytes(value, usize::try_from(length).ok()?)?;
            return Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        // utf8_length and utf8 come first; before 3.12 a third word.
        let more = if layout.text_ascii == 48 { 24 } else { 16 };
        let width = u64::from(kind.clamp(1, 4));
        let count = usize::try_from(length * width).ok()?;
        let raw = self.memory.bytes(value.checked_add(more)?, count)?;
        let code = |bytes: &[u8]| bytes.iter().rev().fold(0, |all, one| all << 8 | u32::from(*one));
        let characters = raw.chunks_exact(usize::try_from(width).ok()?).map(code);
        Some(
            characters
                .map(|code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
        )
    }
}

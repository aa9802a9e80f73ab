//! From `_PyRuntime` to the frames of each thread.

use std::cell::Cell;

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
/// All tables of a process together; the frames of deep recursion have the same one.
const TABLE_BYTES_IN_ALL: u64 = 8 << 20;

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
    let table_bytes_left = Cell::new(TABLE_BYTES_IN_ALL);
    let walk = InterpreterWalk { layout: &layout, memory, table_bytes_left };
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
    table_bytes_left: Cell<u64>,
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
        self.table_bytes_left.set(self.table_bytes_left.get().checked_sub(size)?);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::python::frames::PythonFrame;

    /// Memory whose every word is made of its address: some point to other words, some are anything.
    struct Noise {
        seed: u64,
        /// One word in this number is anything; the others point somewhere near.
        wild: u64,
    }

    impl Memory for Noise {
        fn read(&self, address: u64, into: &mut [u8]) -> usize {
            if address.checked_add(into.len() as u64).is_none() {
                return 0;
            }
            let words = (address / 8..).flat_map(|number| {
                let mixed = (number ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let is_wild = mixed >> 32 & 0xffff < 0xffff / self.wild;
                (if is_wild { mixed } else { mixed >> 40 & 0xffff }).to_le_bytes()
            });
            let skipped = usize::try_from(address % 8).unwrap_or(0);
            into.iter_mut().zip(words.skip(skipped)).for_each(|(byte, noise)| *byte = noise);
            into.len()
        }
    }

    /// Memory of a table of words, which is empty elsewhere.
    struct Words(std::collections::BTreeMap<u64, u64>);

    impl Memory for Words {
        fn read(&self, address: u64, into: &mut [u8]) -> usize {
            for (at, byte) in into.iter_mut().enumerate() {
                let address = address + at as u64;
                let Some(word) = self.0.get(&(address & !7)) else { return at };
                *byte = word.to_le_bytes()[usize::try_from(address % 8).unwrap_or(0)];
            }
            into.len()
        }
    }

    fn of_version(minor: u32) -> Interpreter {
        Interpreter { runtime: 0x1000, minor: Some(minor) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        /// Damaged or hostile memory costs a bounded time and never panics.
        #[test]
        fn any_memory_gives_bounded_stacks(seed: u64, wild in 1..50_u64, minor in 0..20_u32) {
            let memory = Noise { seed, wild };
            if let Ok(stacks) = stacks(&of_version(minor), &memory, &|_| true) {
                prop_assert!((8..=12).contains(&minor));
                prop_assert!(stacks.threads.len() <= THREADS_MAX);
                let frames = stacks.threads.iter().map(|thread| thread.frames.len());
                prop_assert!(frames.clone().all(|count| count <= FRAMES_MAX));
                prop_assert!(frames.sum::<usize>() <= FRAMES_IN_ALL);
            }
        }

        /// The same where the process publishes its own offsets, whatever they are.
        #[test]
        fn any_published_offsets_give_bounded_stacks(
            seed: u64,
            version in 12..17_u64,
            offsets in prop::collection::vec(prop_oneof![0..200_u64, any::<u64>()], 96),
        ) {
            struct Published(Vec<u64>, Noise);
            impl Memory for Published {
                fn read(&self, address: u64, into: &mut [u8]) -> usize {
                    let table: Vec<u8> = self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
                    let at = address.checked_sub(0x1000).and_then(|at| usize::try_from(at).ok());
                    match at.and_then(|at| table.get(at..at.checked_add(into.len())?)) {
                        Some(part) => into.copy_from_slice(part),
                        None => return self.1.read(address, into),
                    }
                    into.len()
                }
            }
            let mut offsets = offsets;
            offsets[0] = u64::from_le_bytes(*b"xdebugpy");
            offsets[1] = 3 << 24 | version << 16;
            let memory = Published(offsets, Noise { seed, wild: 9 });
            match stacks(&of_version(11), &memory, &|_| false) {
                Ok(stacks) => prop_assert_eq!(stacks.version, format!("3.{version}.0")),
                Err(PythonUnknown::Version(text)) => {
                    prop_assert_eq!(text, format!("3.{version}.0"));
                    prop_assert!(!(13..=15).contains(&version));
                }
                Err(PythonUnknown::Unreadable) => prop_assert!((13..=15).contains(&version)),
            }
        }
    }

    /// One interpreter, one thread, one frame that is its own predecessor.
    #[test]
    fn a_ring_of_frames_is_cut() {
        let ascii = |length: u64, text: &[u8; 8]| {
            // Kind 1, compact, ASCII.
            [(16, length), (32, (1 | 8 | 16) << 2), (48, u64::from_le_bytes(*text))]
        };
        let objects: [(u64, Vec<(u64, u64)>); 7] = [
            (0x1000, vec![(32, 0x2000)]),
            (0x2000, vec![(0, 0), (8, 0x3000)]),
            (0x3000, vec![(8, 0), (24, 0x4000), (176, 0)]),
            (0x4000, vec![(24, 0x4000), (32, 0x5000), (104, 4)]),
            (0x5000, vec![(40, 7), (104, 0x6000), (112, 0x6100), (120, 0x6200)]),
            (0x6000, ascii(4, b"a.py\0\0\0\0").to_vec()),
            (0x6100, ascii(1, b"f\0\0\0\0\0\0\0").to_vec()),
        ];
        let table = (0x6200, vec![(16, 2), (32, u64::from_le_bytes([2, 3, 0, 0, 0, 0, 0, 0]))]);
        let all = objects.into_iter().chain([table]);
        let words = all.flat_map(|(base, words)| {
            words.into_iter().map(move |(field, word)| (base + field, word))
        });
        let memory = Words(words.collect());
        let found = stacks(&of_version(8), &memory, &|_| true).expect("an interpreter");
        assert_eq!((found.version.as_str(), found.threads.len()), ("3.8", 1));
        let thread = &found.threads[0];
        assert_eq!((thread.frames.len(), thread.is_cut, thread.tid), (FRAMES_MAX, true, None));
        let frame = PythonFrame { file: "a.py".into(), function: "f".into(), line: 10 };
        assert!(thread.frames.iter().all(|found| *found == frame), "{thread:?}");
        for (minor, error) in
            [(7, PythonUnknown::Version("3.7".into())), (13, PythonUnknown::Unreadable)]
        {
            assert_eq!(stacks(&of_version(minor), &memory, &|_| true), Err(error));
        }
        let empty = Words(std::collections::BTreeMap::new());
        let unreadable = stacks(&of_version(8), &empty, &|_| true);
        assert_eq!(unreadable, Err(PythonUnknown::Unreadable));
    }
}

//! Where the fields are that the walk follows, in bytes from the beginning of each structure of CPython.

use crate::trace::memory::Memory;

/// How a code object maps its instructions to lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineTable {
    /// `co_lnotab`, until 3.9.
    Lnotab,
    /// `co_linetable` of 3.10 (PEP 626).
    Pairs,
    /// `co_linetable` since 3.11 (PEP 657).
    Locations,
}

/// Offsets; a field that a version does not have is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PythonLayout {
    /// `_PyRuntimeState`: the first interpreter.
    pub(super) interpreters: u64,
    pub(super) interpreter_next: u64,
    pub(super) interpreter_threads: u64,
    pub(super) thread_next: u64,
    pub(super) thread_frame: u64,
    /// 3.11 and 3.12: the thread points to a `_PyCFrame`, and that to the frame.
    pub(super) c_frame: Option<u64>,
    pub(super) thread_pthread: u64,
    pub(super) thread_tid: Option<u64>,
    pub(super) frame_code: u64,
    pub(super) frame_previous: u64,
    pub(super) frame_instruction: u64,
    pub(super) frame_owner: Option<u64>,
    pub(super) code_file: u64,
    pub(super) code_name: u64,
    pub(super) code_lines: u64,
    pub(super) code_first_line: u64,
    pub(super) code_instructions: u64,
    pub(super) bytes_size: u64,
    pub(super) bytes_value: u64,
    pub(super) text_state: u64,
    pub(super) text_length: u64,
    /// The size of `PyASCIIObject`: where the characters of an ASCII string are.
    pub(super) text_ascii: u64,
    pub(super) lines: LineTable,
    pub(super) is_free_threaded: bool,
}

/// 3.8 and 3.9. Taken by offsetof from the headers of each version, as those below.
const OF_3_8: PythonLayout = PythonLayout {
    interpreters: 32,
    interpreter_next: 0,
    interpreter_threads: 8,
    thread_next: 8,
    thread_frame: 24,
    c_frame: None,
    thread_pthread: 176,
    thread_tid: None,
    frame_code: 32,
    frame_previous: 24,
    frame_instruction: 104,
    frame_owner: None,
    code_file: 104,
    code_name: 112,
    code_lines: 120,
    code_first_line: 40,
    code_instructions: 0,
    bytes_size: 16,
    bytes_value: 32,
    text_state: 32,
    text_length: 16,
    text_ascii: 48,
    lines: LineTable::Lnotab,
    is_free_threaded: false,
};

const OF_3_10: PythonLayout =
    PythonLayout { frame_instruction: 96, lines: LineTable::Pairs, ..OF_3_8 };

const OF_3_11: PythonLayout = PythonLayout {
    interpreters: 40,
    interpreter_threads: 16,
    thread_frame: 56,
    c_frame: Some(8),
    thread_pthread: 152,
    thread_tid: Some(160),
    frame_previous: 48,
    frame_instruction: 56,
    frame_owner: Some(69),
    code_file: 112,
    code_name: 128,
    code_lines: 136,
    code_first_line: 72,
    code_instructions: 184,
    lines: LineTable::Locations,
    ..OF_3_8
};

const OF_3_12: PythonLayout = PythonLayout {
    interpreter_threads: 72,
    c_frame: Some(0),
    thread_pthread: 136,
    thread_tid: Some(144),
    frame_code: 0,
    frame_previous: 8,
    frame_owner: Some(70),
    code_first_line: 68,
    code_instructions: 192,
    text_ascii: 40,
    ..OF_3_11
};

/// Returns the layout of 3.`minor`, where it is fixed.
pub(super) fn fixed(minor: u32) -> Option<PythonLayout> {
    match minor {
        8 | 9 => Some(OF_3_8),
        10 => Some(OF_3_10),
        11 => Some(OF_3_11),
        12 => Some(OF_3_12),
        _ => None,
    }
}

/// What the interpreter says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublishedLayout {
    /// It does not: a version before 3.13, or no interpreter.
    Nothing,
    /// `PY_VERSION_HEX` of a version that is not known here.
    Unknown(u32),
    Known(u32, Box<PythonLayout>),
}

/// The mark before `_Py_DebugOffsets`.
const COOKIE: &[u8] = b"xdebugpy";

/// This many words of the table are read: all that any known version has of interest here.
const WORDS: usize = 96;

/// In which words the parts of the table begin; the order differs between versions.
struct TableWords {
    thread: usize,
    /// From `thread` to the word with the pthread; the number of the kernel is behind it.
    identity: usize,
    frame: usize,
    code: usize,
    bytes: usize,
    text: usize,
}

/// Reads the table at the beginning of `_PyRuntime`.
pub(super) fn published(runtime: u64, memory: &dyn Memory) -> PublishedLayout {
    let Some(raw) = memory.bytes(runtime, WORDS * 8).filter(|raw| raw.starts_with(COOKIE)) else {
        return PublishedLayout::Nothing;
    };
    let words: Vec<u64> = raw
        .chunks_exact(8)
        .map(|word| word.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)))
        .collect();
    let version = u32::try_from(words[1] & u64::from(u32::MAX)).unwrap_or_default();
    let table = match (version >> 24, (version >> 16) & 0xff) {
        (3, 13) => TableWords { thread: 19, identity: 5, frame: 28, code: 34, bytes: 64, text: 67 },
        (3, 14) => TableWords { thread: 22, identity: 5, frame: 31, code: 39, bytes: 74, text: 77 },
        (3, 15) => TableWords { thread: 22, identity: 8, frame: 39, code: 47, bytes: 86, text: 89 },
        _ => return PublishedLayout::Unknown(version),
    };
    let layout = PythonLayout {
        interpreters: words[5],
        interpreter_next: words[8],
        interpreter_threads: words[9],
        thread_next: words[table.thread + 2],
        thread_frame: words[table.thread + 4],
        c_frame: None,
        thread_pthread: words[table.thread + table.identity],
        thread_tid: Some(words[table.thread + table.identity + 1]),
        frame_code: words[table.frame + 2],
        frame_previous: words[table.frame + 1],
        frame_instruction: words[table.frame + 3],
        frame_owner: Some(words[table.frame + 5]),
        code_file: words[table.code + 1],
        code_name: words[table.code + 3],
        code_lines: words[table.code + 4],
        code_first_line: words[table.code + 5],
        code_instructions: words[table.code + 9],
        bytes_size: words[table.bytes + 1],
        bytes_value: words[table.bytes + 2],
        text_state: words[table.text + 1],
        text_length: words[table.text + 2],
        text_ascii: words[table.text + 3],
        lines: LineTable::Locations,
        is_free_threaded: words[2] != 0,
    };
    PublishedLayout::Known(version, Box::new(layout))
}

//! Where a process crashed: what the report of it has in it, and its wording.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::model::process::Pid;
use crate::model::signal::Signal;
use crate::model::text::{Escaped, byte_size};

/// The report of one fatal signal that a program raised itself or that the kernel raised for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CrashReport {
    pub pid: Pid,
    pub thread: Pid,
    /// The name of the thread (`comm` in proc(5)).
    pub name: String,
    pub signal: Signal,
    /// What `si_code` of sigaction(2) means.
    pub reason: String,
    /// What the fault address means, or the instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What the C library wrote before it aborted: a failed assertion, a damaged heap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the instruction belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<CrashModule>,
    /// Innermost first.
    pub frames: Vec<CrashFrame>,
    /// Why the frames end, if that is not at the root of the stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<&'static str>,
    /// What an interpreter in it says: the Python frames of the thread, the report of a JVM.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runtime: Vec<String>,
    /// The threads of the process, this one among them.
    pub threads: u64,
    /// In the order of their DWARF numbers, pc first.
    #[serde(serialize_with = "registers")]
    pub registers: Vec<(&'static str, u64)>,
    pub resources: CrashResources,
    /// Modules that could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// The same for the same crash in another run and at another load address; empty if no frame says where it
    /// was.
    pub signature: String,
}

/// A mapped file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CrashModule {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// The packager's note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
}

/// One frame, or several alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CrashFrame {
    /// From 0, the innermost.
    pub number: usize,
    /// The name of the module.
    pub module: String,
    /// Where in it, as its linker counts, or the address if there is no module.
    pub offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// How far behind the beginning of the function.
    pub function_offset: u64,
    /// How it was found, in words.
    pub source: &'static str,
    /// How many frames of this function follow each other: a recursion.
    pub repeated: usize,
    /// How many frames before this one were left out.
    pub skipped: usize,
    /// Whether it only carries out an abort that the program asked for: a frame of the C library or of a panic.
    #[serde(skip)]
    pub is_of_abort: bool,
}

/// What the process had when it crashed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CrashResources {
    /// Its largest resident set (`VmHWM`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<u64>,
    /// `rchar` and `wchar` of /proc/PID/io.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
    /// How many descriptors were open.
    pub open_files: u64,
    /// The first of them: `3 /tmp/data`.
    pub files: Vec<String>,
}

fn registers<S: serde::Serializer>(
    registers: &[(&'static str, u64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(registers.iter().map(|(name, value)| (name, format!("{value:#x}"))))
}

impl CrashReport {
    /// Returns signal, place and cause in one line, as the verdict names it:
    /// `SIGSEGV in libfoo.so.1 parse+0x1c: null pointer plus 0x8`.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("{} {}", self.signal, self.place_and_cause())
    }

    /// Returns the summary without the signal.
    #[must_use]
    pub fn place_and_cause(&self) -> String {
        let mut text = String::new();
        // Where the C library ended the program at the program's request, its own frames say nothing.
        let place = self.frames.iter().find(|frame| !frame.is_of_abort);
        if let Some(frame) = place.or(self.frames.first()) {
            // Writing to a String does not fail.
            write!(text, "in {}", FramePlace(frame)).ok();
        }
        let cause = self.message.as_ref().or(self.cause.as_ref()).unwrap_or(&self.reason);
        write!(text, ": {}", Escaped(cause)).ok();
        text
    }

    /// Returns the lines that follow the first one in a log for people.
    #[must_use]
    pub fn details(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let cause = self.cause.as_ref().map(|cause| format!("crash: cause: {}", Escaped(cause)));
        lines.extend(cause);
        let message = self.message.as_ref();
        lines.extend(message.map(|message| format!("crash: message: {}", Escaped(message))));
        lines.extend(self.module.as_ref().map(|module| format!("crash: module {module}")));
        for frame in &self.frames {
            if frame.skipped > 0 {
                lines.push(format!("crash: ... {} frames", frame.skipped));
            }
            lines.push(format!("crash: {frame}"));
        }
        lines.extend(self.cut.map(|reason| format!("crash: {reason}")));
        lines.extend(self.runtime.iter().map(|line| format!("crash: {}", Escaped(line))));
        let words = self.registers.iter().map(|(name, value)| format!("{name}={value:#x}"));
        let words: Vec<String> = words.collect();
        lines.extend(words.chunks(9).map(|words| format!("crash: registers: {}", words.join(" "))));
        lines.push(format!("crash: {}", self.resources));
        lines.extend(self.lacks.iter().map(|lack| format!("crash: {}", Escaped(lack))));
        if !self.signature.is_empty() {
            lines.push(format!("crash: signature {}", self.signature));
        }
        lines
    }
}

/// The first line of the report.
impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Escaped(&self.name);
        write!(f, "crash: process {} '{name}'", self.pid)?;
        match self.threads.saturating_sub(1) {
            0 => {}
            others => write!(f, ", thread {} ({others} others)", self.thread)?,
        }
        write!(f, ": {}", self.summary())?;
        match self.message.is_some() || self.cause.is_some() {
            true => write!(f, " ({})", self.reason),
            // The summary has it.
            false => Ok(()),
        }
    }
}

impl fmt::Display for CrashModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.path).fmt(f)?;
        if let Some(build_id) = &self.build_id {
            write!(f, ", build id {build_id}")?;
        }
        match &self.package {
            Some(package) => write!(f, ", package {}", Escaped(package)),
            None => Ok(()),
        }
    }
}

/// `libfoo.so.1 parse+0x1c`, or without a name of the function `libfoo.so.1+0x4521`.
struct FramePlace<'a>(&'a CrashFrame);

impl fmt::Display for FramePlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.0;
        match &frame.function {
            Some(function) => {
                let (module, function) = (Escaped(&frame.module), Escaped(function));
                write!(f, "{module} {function}+{:#x}", frame.function_offset)
            }
            None => write!(f, "{}+{:#x}", Escaped(&frame.module), frame.offset),
        }
    }
}

impl fmt::Display for CrashFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {}", self.number, FramePlace(self))?;
        if self.function.is_some() {
            write!(f, " ({:#x})", self.offset)?;
        }
        write!(f, " [{}]", self.source)?;
        match self.repeated {
            0 | 1 => Ok(()),
            times => write!(f, " {times} times"),
        }
    }
}

impl fmt::Display for CrashResources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (value, word) in [
            (self.peak_rss_bytes, "peak RSS"),
            (self.read_bytes, "read"),
            (self.written_bytes, "written"),
        ] {
            if let Some(bytes) = value {
                write!(f, "{comma}{word} {}", byte_size(bytes))?;
                comma = ", ";
            }
        }
        write!(f, "{comma}{} open files", self.open_files)?;
        for (index, file) in self.files.iter().enumerate() {
            write!(f, "{} {}", if index == 0 { ":" } else { "," }, Escaped(file))?;
        }
        let more = self.open_files.saturating_sub(self.files.len() as u64);
        if more > 0 && !self.files.is_empty() { f.write_str(", ...") } else { Ok(()) }
    }
}

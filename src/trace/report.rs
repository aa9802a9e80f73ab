//! Makes the report of one crash of what is known in the stop: signal, registers, memory, mappings, files.

use crate::model::crash::{CrashFrame, CrashModule, CrashReport, CrashResources};
use crate::model::process::Pid;
use crate::model::signal::Signal;
use crate::trace::contents::MappedFiles;
use crate::trace::fault::{Fault, FaultContext};
use crate::trace::maps::Maps;
use crate::trace::memory::Memory;
use crate::trace::module::Modules;
use crate::trace::names::demangle;
use crate::trace::registers::Registers;
use crate::trace::signature::{self, SignatureFrame};
use crate::trace::unwind::{Backtrace, FIRST_KEPT, FrameSource, Stack, StackEnd, StackFrame};

/// A message of the C library is not longer.
const MESSAGE_BYTES_MAX: usize = 400;
/// The C library keeps the length of its message before it (`struct abort_msg_s`).
const MESSAGE_OFFSET: u64 = 4;

/// A process that a signal is about to kill, and what /proc says of it.
#[derive(Clone, Debug)]
pub struct Crashing {
    pub pid: Pid,
    pub thread: Pid,
    pub name: String,
    /// The number of its threads.
    pub threads: u64,
    /// RLIMIT_STACK, in bytes.
    pub stack_limit: Option<u64>,
    pub resources: CrashResources,
    pub fault: Fault,
    pub registers: Registers,
}

impl Crashing {
    /// Makes the report.
    #[must_use]
    pub fn report(
        self,
        maps: &Maps,
        memory: &dyn Memory,
        files: &dyn MappedFiles,
        has_time: &dyn Fn() -> bool,
    ) -> CrashReport {
        let mut modules = Modules::new(maps, files);
        let stack = Stack { maps, memory, has_time };
        let trace = stack.backtrace(&self.registers, &mut modules);
        let context = FaultContext {
            registers: &self.registers,
            maps,
            memory,
            files,
            stack_limit: self.stack_limit,
        };
        let cause = context.explain(&self.fault);
        let is_abort = self.fault.signal == Signal::ABRT;
        let message = is_abort.then(|| abort_message(maps, memory, &mut modules)).flatten();
        let module = trace.frames.first().and_then(|frame| modules.get(frame.module?));
        let module = module.filter(|module| module.path.starts_with('/'));
        let mut named: Vec<(usize, CrashFrame)> = shown(&trace, &modules);
        let first = self.first_of_crash(&trace);
        for (index, frame) in &mut named {
            // A function of the C library that was given a wrong pointer is where it crashed; a handler that
            // raised the signal is not.
            frame.is_of_abort &= self.fault.is_asked_for();
            frame.is_of_abort |= *index < first;
        }
        let lacks = modules.iter().filter(|module| module.path.starts_with('/'));
        let lacks = lacks.filter_map(|module| Some(format!("{}: {}", module.path, module.lack?)));
        CrashReport {
            pid: self.pid,
            thread: self.thread,
            signal: self.fault.signal,
            reason: self.fault.reason(),
            cause,
            message,
            module: module.map(|module| CrashModule {
                path: module.path.clone(),
                build_id: module.build_id.clone(),
                package: module.package.clone(),
            }),
            signature: self.signature(&trace, &named, &modules),
            frames: named.into_iter().map(|(_, frame)| frame).collect(),
            cut: match trace.end {
                StackEnd::Root => None,
                StackEnd::Lost => Some("the rest of the stack cannot be followed"),
                StackEnd::Bound => Some("the stack is deeper; it was followed to here"),
            },
            threads: self.threads,
            registers: [("pc", self.registers.pc)]
                .into_iter()
                .chain(self.registers.named())
                .collect(),
            lacks: lacks.collect(),
            runtime: Vec::new(),
            name: self.name,
            resources: self.resources,
        }
    }

    /// Returns the index of the first frame that counts: where a handler raised the signal, that which it interrupted.
    fn first_of_crash(&self, trace: &Backtrace) -> usize {
        let interrupted = trace.frames.iter().rposition(|frame| frame.is_exact);
        interrupted.filter(|_| self.fault.is_sent()).unwrap_or(0)
    }

    fn signature(
        &self,
        trace: &Backtrace,
        named: &[(usize, CrashFrame)],
        modules: &Modules<'_>,
    ) -> String {
        let first = self.first_of_crash(trace);
        let frames = named.iter().skip_while(|(index, _)| *index < first);
        let frames = frames.filter_map(|(index, frame)| {
            let found = trace.frames.get(*index)?;
            let module = modules.get(found.module?)?;
            Some(SignatureFrame {
                frame,
                build_id: module.build_id.as_deref(),
                is_certain: found.source != FrameSource::Scan,
                is_anonymous: !module.path.starts_with('/'),
            })
        });
        signature::signature(self.fault.signal, frames)
    }
}

/// Returns the frames in words, each with its index in the trace; a recursion is one of them.
#[must_use]
pub fn shown(trace: &Backtrace, modules: &Modules<'_>) -> Vec<(usize, CrashFrame)> {
    let mut shown: Vec<(usize, CrashFrame)> = Vec::new();
    for (index, found) in trace.frames.iter().enumerate() {
        let is_behind = trace.skipped > 0 && index == FIRST_KEPT;
        let frame = words(found, modules);
        if let Some((_, last)) = shown.last_mut()
            && !is_behind
            && last.function.is_some()
            && (&last.function, &last.module, last.source)
                == (&frame.function, &frame.module, frame.source)
        {
            last.repeated += 1;
            continue;
        }
        let before = if index >= FIRST_KEPT { trace.skipped } else { 0 };
        let skipped = if is_behind { trace.skipped } else { 0 };
        shown.push((index, CrashFrame { number: index + before, skipped, ..frame }));
    }
    shown
}

fn words(found: &StackFrame, modules: &Modules<'_>) -> CrashFrame {
    let module = found.module.and_then(|index| modules.get(index));
    let offset = found.pc.wrapping_sub(module.map_or(0, |module| module.bias));
    let function = found.function.as_ref().map(|function| demangle(&function.name));
    let begin = found.function.as_ref().map_or(offset, |function| function.address);
    let is_library = module.is_some_and(|module| signature::is_c_library(module.name()));
    let name = module.map_or("unmapped", |module| module.name());
    CrashFrame {
        number: 0,
        module: name.to_owned(),
        offset,
        is_of_abort: function.as_deref().map_or(is_library, signature::is_of_abort),
        function,
        function_offset: offset.wrapping_sub(begin),
        source: match found.source {
            FrameSource::Context => "registers",
            FrameSource::CallFrameInformation => "call frame information",
            FrameSource::SignalFrame => "signal frame",
            FrameSource::FramePointer => "frame pointer",
            FrameSource::ReturnAddress => "return address",
            FrameSource::Scan => "guessed",
        },
        repeated: 1,
        skipped: 0,
    }
}

/// Returns what glibc wrote before it called abort(3): "double free or corruption", a failed assertion.
fn abort_message(maps: &Maps, memory: &dyn Memory, modules: &mut Modules<'_>) -> Option<String> {
    let code = || maps.iter().filter(|map| map.is_executable && map.path.starts_with('/'));
    let library = code().find(|map| map.name().starts_with("libc.so"));
    let home = library.or_else(|| code().next())?;
    let index = modules.at(home.start, memory)?;
    let pointer = memory.word(modules.get(index)?.find("__abort_msg")?)?;
    let mut text = vec![0; MESSAGE_BYTES_MAX];
    let read = memory.read(pointer.checked_add(MESSAGE_OFFSET)?, &mut text);
    let text = text.get(..read)?.split(|byte| *byte == 0).next()?;
    let text = String::from_utf8_lossy(text).trim().to_owned();
    (pointer != 0 && !text.is_empty()).then_some(text)
}

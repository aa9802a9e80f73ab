//! A bounded native backtrace: by call frame information, then by frame pointers, then by a short scan of the stack.
//! Each frame says how it was found.

use crate::trace::cfi::{CallFrames, UnwindStep};
use crate::trace::code;
use crate::trace::maps::Maps;
use crate::trace::memory::Memory;
use crate::trace::module::Modules;
use crate::trace::registers::{FP, RA, Registers, SP};
use crate::trace::symbols::Symbol;

/// The first frames of a deep stack are kept, and the last ones, which say how it began.
pub const FIRST_KEPT: usize = 32;
const LAST_KEPT: usize = 8;
/// At most this number of frames is walked; a stack of 8 MiB can hold more.
const FRAMES_MAX: usize = 20_000;
/// Whether there is still time is asked each time this number of frames was walked.
const FRAMES_PER_CHECK: usize = 128;
/// A scan looks at this number of words, and not again and again.
const SCAN_WORDS: u64 = 512;
const SCANS_MAX: usize = 12;
/// Frames are smaller than this: what is further away is not a frame pointer.
const FRAME_BYTES_MAX: u64 = 1 << 20;

/// Functions that have no caller.
const ROOTS: [&str; 8] = [
    "_start",
    "_start_c",
    "__libc_start_main",
    "__libc_start_main_impl",
    "libc_start_main_stage2",
    "clone",
    "__clone3",
    "start",
];

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameSource {
    /// The registers of the thread.
    Context,
    CallFrameInformation,
    /// The frame that the kernel made for a signal handler.
    SignalFrame,
    FramePointer,
    /// The return address of the call that went wrong, or of a leaf function.
    ReturnAddress,
    /// A word on the stack that looks like a return address: a guess.
    Scan,
}

/// One frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackFrame {
    pub pc: u64,
    pub source: FrameSource,
    /// Whether pc is that of an instruction, and not an address that is returned to: the first frame, and what a
    /// signal interrupted.
    pub is_exact: bool,
    /// The index in [`Modules`].
    pub module: Option<usize>,
    pub function: Option<Symbol>,
}

/// Why a backtrace ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackEnd {
    Root,
    /// The rest cannot be followed.
    Lost,
    /// There are too many frames, or it took too long.
    Bound,
}

/// The frames of one thread, innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backtrace {
    pub frames: Vec<StackFrame>,
    /// How many frames behind the first [`FIRST_KEPT`] were not kept.
    pub skipped: usize,
    pub end: StackEnd,
}

/// What is walked through.
pub struct Stack<'a> {
    pub maps: &'a Maps,
    pub memory: &'a dyn Memory,
    /// Whether there is still time.
    pub has_time: &'a dyn Fn() -> bool,
}

impl Stack<'_> {
    /// Walks from those registers to the root of the stack, and names the functions.
    pub fn backtrace(&self, registers: &Registers, modules: &mut Modules<'_>) -> Backtrace {
        let mut walk = StackWalk {
            stack: self,
            tables: CallFrames::new(self.memory),
            registers: *registers,
            source: FrameSource::Context,
            is_exact: true,
            walked: 0,
            scans: 0,
        };
        let mut trace = Backtrace { frames: Vec::new(), skipped: 0, end: StackEnd::Lost };
        loop {
            let address = walk.registers.pc.wrapping_sub(u64::from(!walk.is_exact));
            let module = modules.at(address, self.memory);
            trace.frames.push(StackFrame {
                pc: walk.registers.pc,
                source: walk.source,
                is_exact: walk.is_exact,
                module,
                function: None,
            });
            walk.walked += 1;
            if trace.frames.len() > FIRST_KEPT + LAST_KEPT {
                trace.frames.remove(FIRST_KEPT);
                trace.skipped += 1;
            }
            let is_late = walk.walked.is_multiple_of(FRAMES_PER_CHECK) && !(self.has_time)();
            if walk.walked >= FRAMES_MAX || is_late {
                trace.end = StackEnd::Bound;
                break;
            }
            if let Some(end) = walk.advance(module, modules) {
                trace.end = end;
                break;
            }
        }
        name(&mut trace.frames, modules);
        without_guesses_below_the_root(&mut trace);
        trace
    }

    /// Returns whether a function may return there.
    fn is_return_address(&self, address: u64) -> bool {
        self.maps.is_code(address) && code::is_after_call(address, self.memory)
    }
}

struct StackWalk<'a> {
    stack: &'a Stack<'a>,
    tables: CallFrames<'a>,
    registers: Registers,
    source: FrameSource,
    is_exact: bool,
    walked: usize,
    scans: usize,
}

impl StackWalk<'_> {
    /// Goes on to the caller; returns why there is none.
    fn advance(&mut self, module: Option<usize>, modules: &Modules<'_>) -> Option<StackEnd> {
        if self.is_exact && !self.stack.maps.is_code(self.registers.pc) && self.by_return_address()
        {
            return None;
        }
        let module = module.and_then(|index| modules.get(index));
        let step = module.map(|one| self.tables.step(one, &self.registers, self.is_exact));
        match step {
            Some(UnwindStep::Root) => return Some(StackEnd::Root),
            // A rule that leads elsewhere: the stack is damaged.
            Some(UnwindStep::Caller(caller, is_signal))
                if is_signal || self.stack.maps.is_code(caller.pc) =>
            {
                let source = match is_signal {
                    true => FrameSource::SignalFrame,
                    false => FrameSource::CallFrameInformation,
                };
                self.go(caller, source, is_signal);
                return None;
            }
            _ => {}
        }
        if let Some(caller) = code::interrupted(&self.registers, self.stack.memory) {
            self.go(caller, FrameSource::SignalFrame, true);
            return None;
        }
        // A leaf function without a frame of its own: the system calls of Go and musl.
        if self.walked == 1 && self.by_return_address() {
            return None;
        }
        if self.source == FrameSource::FramePointer && self.registers.get(FP) == Some(0) {
            return Some(StackEnd::Root);
        }
        if self.by_frame_pointer() || self.by_scan() {
            return None;
        }
        Some(StackEnd::Lost)
    }

    fn go(&mut self, caller: Registers, source: FrameSource, is_exact: bool) {
        (self.registers, self.source, self.is_exact) = (caller, source, is_exact);
    }

    /// A call leaves its return address at the stack pointer or in the link register.
    fn by_return_address(&mut self) -> bool {
        let sp = self.registers.sp();
        let (address, pushed) = match cfg!(target_arch = "x86_64") {
            true => (self.stack.memory.word(sp), 8),
            false => (self.registers.get(RA), 0),
        };
        let address = address.filter(|address| self.stack.is_return_address(*address));
        let is_new = |address: &u64| !(pushed == 0 && *address == self.registers.pc);
        let Some(address) = address.filter(is_new) else { return false };
        let mut caller = self.registers.at(address);
        caller.set(SP, sp.wrapping_add(pushed));
        self.go(caller, FrameSource::ReturnAddress, false);
        true
    }

    fn by_frame_pointer(&mut self) -> bool {
        let caller =
            self.registers.get(FP).and_then(|frame| self.caller_of(&self.registers, frame));
        caller.inspect(|caller| self.go(*caller, FrameSource::FramePointer, false)).is_some()
    }

    /// The caller's frame pointer and the return address stand at the frame pointer.
    fn caller_of(&self, registers: &Registers, frame: u64) -> Option<Registers> {
        let above = frame.checked_sub(registers.sp())?;
        if !frame.is_multiple_of(8) || above > FRAME_BYTES_MAX {
            return None;
        }
        let next = self.stack.memory.word(frame)?;
        let address = self.stack.memory.word(frame.checked_add(8)?)?;
        let mut caller = registers.at(address);
        caller.set(FP, next);
        caller.set(SP, frame.checked_add(16)?);
        self.stack.is_return_address(address).then_some(caller)
    }

    fn by_scan(&mut self) -> bool {
        if self.scans >= SCANS_MAX {
            return false;
        }
        self.scans += 1;
        let memory = self.stack.memory;
        let first = self.registers.sp() & !7;
        let found = (0..SCAN_WORDS).find_map(|index| {
            let at = first.checked_add(8 * index)?;
            let address = memory.word(at)?;
            let is_handler =
                || self.stack.maps.is_code(address) && code::is_restorer(address, memory);
            let is_caller = self.stack.is_return_address(address) || is_handler();
            is_caller.then_some((address, at))
        });
        let Some((address, at)) = found else { return false };
        let mut caller = self.registers.at(address);
        caller.set(SP, at.saturating_add(8));
        // Below a return address may stand the caller's frame pointer (Go).
        let frame = at.checked_sub(8).and_then(|below| memory.word(below));
        if let Some(frame) = frame.filter(|frame| self.caller_of(&caller, *frame).is_some()) {
            caller.set(FP, frame);
        }
        self.go(caller, FrameSource::Scan, false);
        true
    }
}

/// Names the functions of all frames, with one pass through each symbol table.
fn name(frames: &mut [StackFrame], modules: &Modules<'_>) {
    for (index, module) in modules.iter().enumerate() {
        let mut inside: Vec<&mut StackFrame> =
            frames.iter_mut().filter(|frame| frame.module == Some(index)).collect();
        let address = |frame: &&mut StackFrame| {
            frame.pc.wrapping_sub(module.bias).wrapping_sub(u64::from(!frame.is_exact))
        };
        let addresses: Vec<u64> = inside.iter().map(address).collect();
        for (frame, function) in inside.iter_mut().zip(module.functions(&addresses)) {
            frame.function = function;
        }
    }
}

fn without_guesses_below_the_root(trace: &mut Backtrace) {
    let is_root = |frame: &StackFrame| {
        frame.function.as_ref().is_some_and(|function| ROOTS.contains(&function.name.as_str()))
    };
    while let [.., root, guess] = trace.frames.as_slice()
        && guess.source == FrameSource::Scan
        && is_root(root)
    {
        trace.frames.pop();
        trace.end = StackEnd::Root;
    }
}

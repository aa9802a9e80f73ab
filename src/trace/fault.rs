//! What a fatal signal means, in words (sigaction(2)).

use std::cmp::Ordering;

use crate::model::signal::Signal;
use crate::trace::contents::MappedFiles;
use crate::trace::maps::{Map, Maps};
use crate::trace::memory::Memory;
use crate::trace::registers::Registers;

/// An address below this is that of a member or an element of a null pointer: nothing is mapped there
/// (vm.mmap_min_addr).
const NULL_BYTES: u64 = 1 << 16;
/// What is this near to a mapping is past its end or before its beginning.
const NEAR_BYTES: u64 = 1 << 20;
/// An access by a stack pointer is not further away from it than a large frame.
const STACK_ACCESS_BYTES: u64 = 1 << 20;
/// The gap that the kernel keeps below a stack (stack_guard_gap) is 1 MiB; a large frame may reach over it.
const STACK_GAP_BYTES: u64 = 2 << 20;
/// Next to a mapping an overrun is the better explanation, and a bit flip is not assumed.
const FLIP_DISTANCE: u64 = 64 << 20;
/// Pages have this number of bits: a lower bit that flips stays in the page.
const PAGE_BITS: u32 = 12;
/// `si_code` of what the kernel says no more about, a general protection fault among them.
const SI_KERNEL: i32 = 0x80;

/// What the kernel reported with the signal (siginfo_t).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub signal: Signal,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub address: u64,
    /// `si_syscall`, of SIGSYS.
    pub syscall: i32,
}

impl Fault {
    /// Returns whether a process sent it, and no instruction raised it.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.code <= 0
    }

    /// Returns whether the program may have asked for its end: by abort(3), or by an instruction for that.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        self.is_sent() || matches!(self.signal, Signal::ABRT | Signal::ILL | Signal::TRAP)
    }

    /// Returns what `si_code` means.
    #[must_use]
    pub fn reason(&self) -> String {
        let words = match (self.signal, self.code) {
            (_, 0) => "sent by kill(2)",
            (_, -1) => "sent by sigqueue(3)",
            (_, -2) => "sent by a POSIX timer",
            (_, -6) => "sent by tgkill(2)",
            (Signal::SEGV, 1) => "address not mapped",
            (Signal::SEGV, 2) => "access not permitted",
            (Signal::SEGV, 3) => "bounds check failed",
            (Signal::SEGV, 4) => "denied by a memory protection key",
            (Signal::SEGV, 8 | 9) => "memory tag does not match",
            (Signal::SEGV, 10) => "control protection: the shadow stack does not match",
            (Signal::SEGV, SI_KERNEL) => "general protection fault",
            (Signal::BUS, 1) => "misaligned address",
            (Signal::BUS, 2) => "nothing behind the mapping",
            (Signal::BUS, 3) => "hardware error",
            (Signal::BUS, 4) => "hardware memory error (machine check), consumed",
            (Signal::BUS, 5) => "hardware memory error (machine check), not consumed",
            (Signal::FPE, 1) => "integer division by zero",
            (Signal::FPE, 2) => "integer overflow",
            (Signal::FPE, 3) => "floating-point division by zero",
            (Signal::FPE, 4) => "floating-point overflow",
            (Signal::FPE, 5) => "floating-point underflow",
            (Signal::FPE, 6) => "floating-point result is inexact",
            (Signal::FPE, 7) => "invalid floating-point operation",
            (Signal::ILL, 1) => "illegal opcode",
            (Signal::ILL, 2) => "illegal operand",
            (Signal::ILL, 5) => "privileged opcode",
            (Signal::TRAP, 1 | SI_KERNEL) => "breakpoint",
            (Signal::TRAP, 2) => "single step",
            (Signal::SYS, 1) => "system call denied by seccomp(2)",
            (_, SI_KERNEL) => "from the kernel",
            (_, code) => return format!("si_code {code}"),
        };
        words.to_owned()
    }
}

/// What is known of the process around a fault.
pub struct FaultContext<'a> {
    pub registers: &'a Registers,
    pub maps: &'a Maps,
    pub memory: &'a dyn Memory,
    pub files: &'a dyn MappedFiles,
    /// RLIMIT_STACK, in bytes; `None` if it is not known or there is no limit.
    pub stack_limit: Option<u64>,
}

impl FaultContext<'_> {
    /// Returns the cause in words, if the signal says one.
    #[must_use]
    pub fn explain(&self, fault: &Fault) -> Option<String> {
        if fault.is_sent() {
            return None;
        }
        match fault.signal {
            Signal::SEGV if fault.code == SI_KERNEL => Some(self.general_protection()),
            Signal::SEGV => Some(self.segmentation(fault)),
            Signal::BUS => Some(self.bus(fault)),
            Signal::ILL => Some(self.illegal()),
            Signal::SYS => Some(format!("system call number {}", fault.syscall)),
            _ => None,
        }
    }

    fn segmentation(&self, fault: &Fault) -> String {
        let address = fault.address;
        let is_jump = address == self.registers.pc && !self.maps.is_code(address);
        let verb = if is_jump { "jump to " } else { "" };
        if let Some(text) = null(address) {
            return format!("{verb}{text}");
        }
        if let Some(text) = self.stack_overflow(address) {
            return text;
        }
        match self.maps.at(address) {
            Some(map) if is_jump => format!("jump to {address:#x} in {map}, not executable"),
            Some(map) if map.is_readable && !map.is_writable => {
                format!("write to {address:#x} in {map}, not writable")
            }
            Some(map) => format!("{address:#x} in {map}"),
            None => format!("{verb}{address:#x}: {}", self.unmapped(address)),
        }
    }

    fn unmapped(&self, address: u64) -> String {
        if let Some(text) = text_in(address) {
            return format!("not mapped; its bytes are the text {text:?}");
        }
        if let Some((bit, map)) = self.flipped(address) {
            return format!(
                "not mapped, and with bit {bit} flipped it is in {map}: possible memory bit flip"
            );
        }
        let past = self.maps.below(address).map(|map| (address - map.end, map));
        let before = self.maps.above(address).map(|map| (map.start - address, map));
        match (past, before) {
            (Some((bytes, map)), _) if bytes < NEAR_BYTES => {
                format!("not mapped, {bytes} bytes past the end of {map}")
            }
            (_, Some((bytes, map))) if bytes < NEAR_BYTES => {
                format!("not mapped, {bytes} bytes before {map}")
            }
            _ => "not mapped, and nothing near it is".to_owned(),
        }
    }

    /// The stack pointer decides whether an address below a stack is an overflow.
    fn stack_overflow(&self, address: u64) -> Option<String> {
        if address.abs_diff(self.registers.sp()) >= STACK_ACCESS_BYTES {
            return None;
        }
        let Some(map) = self.maps.at(address) else {
            let stack = self.maps.above(address).filter(|map| map.path == "[stack]")?;
            if stack.start - address >= STACK_GAP_BYTES {
                return None;
            }
            let size = (stack.end - stack.start) >> 10;
            let limit = self.stack_limit.map(|bytes| format!(", limit {} KiB", bytes >> 10));
            return Some(format!(
                "stack overflow: {address:#x} is below the main thread's stack of {size} KiB{}",
                limit.unwrap_or_default()
            ));
        };
        let stack = self.maps.at(map.end).filter(|stack| stack.is_writable)?;
        let is_guard = !map.is_readable && !map.is_writable && !map.is_executable;
        let size = (stack.end - stack.start) >> 10;
        is_guard.then(|| {
            format!(
                "stack overflow: {address:#x} is in the guard page below a thread's stack of {size} KiB"
            )
        })
    }

    /// The kernel does not say the address: the registers that hold an impossible one are named.
    fn general_protection(&self) -> String {
        if !is_canonical(self.registers.pc) {
            return format!("jump to {:#x}, which is not a canonical address", self.registers.pc);
        }
        let odd = self.registers.named().filter(|(_, value)| !is_canonical(*value));
        let odd = odd.map(|(name, value)| {
            let text = text_in(value).map(|text| format!(" (the text {text:?})"));
            let flip = || {
                let (bit, map) = self.flipped(value)?;
                Some(format!(" (with bit {bit} flipped in {map}: possible memory bit flip)"))
            };
            format!("{name}={value:#x}{}", text.or_else(flip).unwrap_or_default())
        });
        let odd: Vec<String> = odd.collect();
        match odd.is_empty() {
            true => "no register holds a non-canonical address: the instruction does, or a vector \
                     access is misaligned, or the instruction is privileged"
                .to_owned(),
            false => format!("address not canonical: {}", odd.join(", ")),
        }
    }

    fn bus(&self, fault: &Fault) -> String {
        let address = fault.address;
        let Some(map) = self.maps.at(address) else { return format!("{address:#x}") };
        if fault.code != 2 || !map.path.starts_with('/') {
            return format!("{address:#x} in {map}");
        }
        let byte = address - map.start + map.offset;
        let length = self.files.open(map).ok().map(|file| file.length());
        match length {
            Some(length) if length <= byte => format!(
                "{address:#x}: byte {byte} of {}, which has {length} bytes: it was truncated while it was \
                 mapped",
                map.path
            ),
            _ => format!(
                "{address:#x}: byte {byte} of {}: truncated while it was mapped, no space for it, or an \
                 I/O error",
                map.path
            ),
        }
    }

    fn illegal(&self) -> String {
        let pc = self.registers.pc;
        let mut code = [0; 8];
        let read = self.memory.read(pc, &mut code);
        let code = code.get(..read).unwrap_or_default();
        if read == 0 {
            return format!("{pc:#x} is not mapped");
        }
        if !self.maps.is_code(pc) {
            return format!("{pc:#x} is not code");
        }
        let bytes: Vec<String> = code.iter().map(|byte| format!("{byte:02x}")).collect();
        let bytes = bytes.join(" ");
        if cfg!(target_arch = "x86_64") {
            match code {
                [0x0f, 0x0b, ..] => {
                    return "ud2: a trap that the compiler placed (__builtin_trap, unreachable code, \
                            a failed check)"
                        .to_owned();
                }
                [0xc4 | 0xc5 | 0x62, ..] => {
                    return format!(
                        "instruction bytes {bytes}: a vector instruction (AVX, AVX-512); the program may \
                         be built for another processor"
                    );
                }
                _ => {}
            }
        }
        format!("instruction bytes {bytes}")
    }

    /// Returns the bit and the one mapping that the address is in if that bit is flipped; `None` where something
    /// else is the better explanation, or there are several.
    fn flipped(&self, address: u64) -> Option<(u32, &Map)> {
        let is_near = |map: Option<&Map>| {
            map.is_some_and(|map| {
                address.abs_diff(map.start).min(address.abs_diff(map.end)) < FLIP_DISTANCE
            })
        };
        let below_1_mib = address < 1 << 20;
        if below_1_mib || is_near(self.maps.below(address)) || is_near(self.maps.above(address)) {
            return None;
        }
        let mut found = (PAGE_BITS..64).filter_map(|bit| {
            let map = self.maps.at(address ^ 1 << bit)?;
            (map.is_readable && !map.path.starts_with("[v")).then_some((bit, map))
        });
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }
}

fn null(address: u64) -> Option<String> {
    match (address.cmp(&0), address.wrapping_neg()) {
        (Ordering::Equal, _) => Some("null pointer".to_owned()),
        _ if address < NULL_BYTES => Some(format!("null pointer plus {address:#x}")),
        (_, below) if below < NULL_BYTES => Some(format!("null pointer minus {below:#x}")),
        _ => None,
    }
}

/// Returns whether the processor can address it: user addresses of x86_64 have 47 bits, those of aarch64 may have a tag
/// in the highest byte.
fn is_canonical(address: u64) -> bool {
    match cfg!(target_arch = "x86_64") {
        true => matches!(address >> 47, 0 | 0x1_ffff),
        false => address >> 52 & 0xf == 0,
    }
}

/// Returns the text that an address is made of, where text was written over a pointer.
fn text_in(value: u64) -> Option<String> {
    let bytes = value.to_le_bytes();
    let length = bytes.iter().rposition(|byte| *byte != 0)? + 1;
    let text = bytes.get(..length).filter(|text| text.len() >= 4)?;
    let is_text = text.iter().all(|byte| (0x20..0x7f).contains(byte));
    is_text.then(|| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests;

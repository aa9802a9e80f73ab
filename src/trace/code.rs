//! What instructions say about a stack, where no table does.

use crate::trace::memory::Memory;
use crate::trace::registers::Registers;

/// The instructions that a signal handler returns to: x86_64 `mov $15,%rax; syscall`.
#[cfg(target_arch = "x86_64")]
const RESTORER: [u8; 9] = [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05];
/// The instructions that a signal handler returns to: `mov x8,#139; svc 0`.
#[cfg(not(target_arch = "x86_64"))]
const RESTORER: [u8; 8] = [0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4];

/// Returns whether a signal handler returns there.
pub fn is_restorer(address: u64, memory: &dyn Memory) -> bool {
    memory.bytes(address, RESTORER.len()).is_some_and(|bytes| bytes == RESTORER)
}

/// Returns whether a call instruction ends there.
#[cfg(target_arch = "x86_64")]
pub fn is_after_call(address: u64, memory: &dyn Memory) -> bool {
    let mut code = [0_u8; 7];
    if memory.fill(address.wrapping_sub(7), &mut code).is_none() {
        return false;
    }
    // `ff /2`, which is two to seven bytes long, or `e8` with four bytes.
    let is_indirect =
        |at: usize| code[at] == 0xff && code.get(at + 1).is_some_and(|next| next >> 3 & 7 == 2);
    code[2] == 0xe8 || [5, 4, 3, 1, 0].into_iter().any(is_indirect)
}

/// Returns whether a call instruction ends there.
#[cfg(not(target_arch = "x86_64"))]
pub fn is_after_call(address: u64, memory: &dyn Memory) -> bool {
    // `bl`, `blr` and the forms of `blr` with pointer authentication.
    let code = memory.word(address.wrapping_sub(8)).map(|word| word >> 32);
    code.is_some_and(|code| {
        code >> 26 == 0b10_0101 || code & 0xffff_fc1f == 0xd63f_0000 || code >> 25 == 0x6b
    })
}

/// Returns the registers that a signal interrupted, from the frame that the kernel made for its handler. No table
/// says it of musl and Go on x86_64, and of the vdso on aarch64.
pub fn interrupted(registers: &Registers, memory: &dyn Memory) -> Option<Registers> {
    if !is_restorer(registers.pc, memory) {
        return None;
    }
    let at = |offset: u64| memory.word(registers.sp().wrapping_add(offset));
    let mut found = *registers;
    #[cfg(target_arch = "x86_64")]
    {
        // ucontext_t: flags, link and stack are 40 bytes; then r8 to r15, rdi rsi rbp rbx rdx rax rcx rsp rip.
        const ORDER: [u16; 16] = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7];
        for (index, number) in (0..).zip(ORDER) {
            found.set(number, at(40 + 8 * index)?);
        }
        found.pc = at(40 + 128)?;
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // siginfo_t is 128 bytes; ucontext_t: flags, link, stack and mask are 176, the fault's address 8; then x0 to
        // x30, sp and pc.
        const FIRST: u64 = 128 + 176 + 8;
        for number in 0..32 {
            found.set(number, at(FIRST + 8 * u64::from(number))?);
        }
        found.pc = at(FIRST + 8 * 32)?;
    }
    Some(found)
}

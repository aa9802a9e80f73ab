//! The registers of a thread, by their DWARF numbers (the psABI of each architecture).

/// How many registers are kept.
pub const COUNT: usize = 33;

#[cfg(target_arch = "x86_64")]
mod numbers {
    pub const SP: u16 = 7;
    pub const FP: u16 = 6;
    pub const RA: u16 = 16;
    pub const NAMES: [&str; 16] = [
        "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15",
    ];
    /// `user_regs_struct` of <sys/user.h>: the DWARF number of each of its words.
    pub const WORDS: &[(usize, u16)] = &[
        (0, 15),
        (1, 14),
        (2, 13),
        (3, 12),
        (4, 6),
        (5, 3),
        (6, 11),
        (7, 10),
        (8, 9),
        (9, 8),
        (10, 0),
        (11, 2),
        (12, 1),
        (13, 4),
        (14, 5),
        (19, 7),
    ];
    pub const PC_WORD: usize = 16;
    /// `orig_rax`.
    pub const SYSCALL_WORD: usize = 15;
}

#[cfg(not(target_arch = "x86_64"))]
mod numbers {
    pub const SP: u16 = 31;
    pub const FP: u16 = 29;
    pub const RA: u16 = 30;
    #[rustfmt::skip]
    pub const NAMES: [&str; 32] = [
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
        "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26",
        "x27", "x28", "fp", "lr", "sp",
    ];
    /// `user_pt_regs` of <asm/ptrace.h>: the DWARF number of each of its words.
    #[rustfmt::skip]
    pub const WORDS: &[(usize, u16)] = &[
        (0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 9), (10, 10),
        (11, 11), (12, 12), (13, 13), (14, 14), (15, 15), (16, 16), (17, 17), (18, 18), (19, 19),
        (20, 20), (21, 21), (22, 22), (23, 23), (24, 24), (25, 25), (26, 26), (27, 27), (28, 28),
        (29, 29), (30, 30), (31, 31),
    ];
    pub const PC_WORD: usize = 32;
    /// `x8`.
    pub const SYSCALL_WORD: usize = 8;
}

pub use numbers::{FP, RA, SP};

/// The program counter, and those registers that are known: of a thread that was not stopped these are few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    pub pc: u64,
    values: [u64; COUNT],
    /// Bit N is set where register N is known.
    known: u64,
}

impl Registers {
    /// Returns the registers of a thread of which only these two are known (/proc/PID/syscall in proc(5)).
    #[must_use]
    pub fn new(pc: u64, sp: u64) -> Registers {
        let mut registers = Registers { pc, values: [0; COUNT], known: 0 };
        registers.set(SP, sp);
        registers
    }

    /// Takes the words of NT_PRSTATUS, as PTRACE_GETREGSET fills them in; `None` if there are too few: the
    /// thread runs 32-bit code.
    #[must_use]
    pub fn from_words(words: &[u64]) -> Option<Registers> {
        let mut registers = Registers::new(*words.get(numbers::PC_WORD)?, 0);
        for (word, number) in numbers::WORDS {
            registers.set(*number, *words.get(*word)?);
        }
        Some(registers)
    }

    /// Returns the number of the system call that the thread is in or just made, of the same words.
    #[must_use]
    pub fn syscall(words: &[u64]) -> Option<i32> {
        i32::try_from(*words.get(numbers::SYSCALL_WORD)?).ok()
    }

    #[must_use]
    pub fn get(&self, number: u16) -> Option<u64> {
        let value = *self.values.get(usize::from(number))?;
        (self.known >> number & 1 == 1).then_some(value)
    }

    pub fn set(&mut self, number: u16, value: u64) {
        if let Some(place) = self.values.get_mut(usize::from(number)) {
            *place = value;
            self.known |= 1 << number;
        }
    }

    /// Returns them with another program counter.
    #[must_use]
    pub fn at(self, pc: u64) -> Registers {
        Registers { pc, ..self }
    }

    /// Returns the stack pointer, which is always known.
    #[must_use]
    pub fn sp(&self) -> u64 {
        self.values[usize::from(SP)]
    }

    /// Returns the names and values of those that are known, in the order of their numbers.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let known = (0_u16..).zip(numbers::NAMES);
        known.filter_map(|(number, name)| Some((name, self.get(number)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_kernel_find_their_numbers() {
        let words: Vec<u64> = (100..134).collect();
        let registers = Registers::from_words(&words).expect("enough words");
        let names: Vec<_> = registers.named().collect();
        if cfg!(target_arch = "x86_64") {
            assert_eq!((registers.pc, registers.sp()), (116, 119));
            assert_eq!(Registers::syscall(&words), Some(115));
            assert_eq!(names[..3], [("rax", 110), ("rdx", 112), ("rcx", 111)]);
        } else {
            assert_eq!((registers.pc, registers.sp()), (132, 131));
            assert_eq!(names[..2], [("x0", 100), ("x1", 101)]);
        }
        assert_eq!(Registers::from_words(&words[..12]), None);
    }

    #[test]
    fn what_is_not_known_is_not_given() {
        let mut registers = Registers::new(1, 2);
        assert_eq!(
            (registers.get(SP), registers.get(FP), registers.get(999)),
            (Some(2), None, None)
        );
        registers.set(FP, 3);
        registers.set(999, 4);
        assert_eq!(registers.get(FP), Some(3));
    }
}

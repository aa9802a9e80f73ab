//! One step of unwinding by call frame information (.eh_frame, .debug_frame), with all registers.
//!
//! It reports whether there was a rule, knows signal frames, and reads .debug_frame where .eh_frame has a gap (musl).

use gimli::{
    BaseAddresses, CfaRule, DebugFrame, EhFrame, EhFrameHdr, Encoding, EndianSlice, Evaluation,
    EvaluationResult, FrameDescriptionEntry, LittleEndian, Location, RegisterRule, UnwindContext,
    UnwindExpression, UnwindSection, UnwindTableRow, Value,
};

use crate::trace::memory::Memory;
use crate::trace::module::Module;
use crate::trace::registers::{RA, Registers, SP};

type Bytes<'a> = EndianSlice<'a, LittleEndian>;
type UnwindEntry<'a> = FrameDescriptionEntry<Bytes<'a>>;

/// An expression may hold a loop.
const OPERATIONS_MAX: u32 = 1000;
/// aarch64: the bits above are those of pointer authentication.
const ADDRESS_BITS: u32 = 52;

/// How every linker writes the count and the entries of .eh_frame_hdr: DW_EH_PE_udata4, and DW_EH_PE_datarel with
/// DW_EH_PE_sdata4.
const ENCODINGS_OF_INDEX: [u8; 2] = [0x03, 0x3b];

/// What a step came to.
#[expect(clippy::large_enum_variant, reason = "it is returned and taken apart, and never kept")]
pub enum UnwindStep {
    /// The registers of the caller, and whether the kernel made this frame for a signal handler.
    Caller(Registers, bool),
    /// A rule says that there is no caller.
    Root,
    NoRule,
}

/// Finds rules and follows them; keeps what gimli needs again at each step.
pub struct CallFrames<'a> {
    memory: &'a dyn Memory,
    context: UnwindContext<usize>,
}

impl<'a> CallFrames<'a> {
    #[must_use]
    pub fn new(memory: &'a dyn Memory) -> CallFrames<'a> {
        CallFrames { memory, context: UnwindContext::new() }
    }

    /// Returns the caller's registers. `is_exact`: pc is the address of an instruction, and not one that is
    /// returned to.
    pub fn step(&mut self, module: &Module, registers: &Registers, is_exact: bool) -> UnwindStep {
        let bases = bases(module);
        let at = registers.pc.wrapping_sub(module.bias).wrapping_sub(u64::from(!is_exact));
        if let Some(table) = &module.tables.eh_frame {
            let mut section = EhFrame::new(&table.bytes, LittleEndian);
            section.set_address_size(8);
            let entry = by_index(module, &section, &bases, at).unwrap_or_else(|| {
                section.fde_for_address(&bases, at, EhFrame::cie_from_offset).ok()
            });
            let place = RulePlace { section: &section, bases: &bases, at };
            if let Some(step) = entry.and_then(|entry| self.apply(&place, &entry, registers)) {
                return step;
            }
        }
        if let Some(table) = &module.tables.debug_frame {
            let mut section = DebugFrame::new(&table.bytes, LittleEndian);
            section.set_address_size(8);
            let entry = section.fde_for_address(&bases, at, DebugFrame::cie_from_offset).ok();
            let place = RulePlace { section: &section, bases: &bases, at };
            if let Some(step) = entry.and_then(|entry| self.apply(&place, &entry, registers)) {
                return step;
            }
        }
        UnwindStep::NoRule
    }

    fn apply<'s, S: UnwindSection<Bytes<'s>>>(
        &mut self,
        place: &RulePlace<'_, S>,
        entry: &UnwindEntry<'s>,
        registers: &Registers,
    ) -> Option<UnwindStep> {
        let RulePlace { section, bases, at } = *place;
        let row = entry.unwind_info_for_address(section, bases, &mut self.context, at).ok()?;
        let encoding = entry.cie().encoding();
        let rules = RegisterRules { section, encoding, registers, memory: self.memory };
        let return_address = entry.cie().return_address_register();
        if matches!(row.register(return_address), Some(RegisterRule::Undefined)) {
            return Some(UnwindStep::Root);
        }
        let mut caller = rules.caller(row)?;
        caller.pc = caller.get(return_address.0)?;
        if cfg!(target_arch = "aarch64") {
            caller.pc &= (1 << ADDRESS_BITS) - 1;
        }
        // A rule that does not move would be followed for ever.
        let moves = caller.sp() > registers.sp() || caller.pc != registers.pc;
        match (moves, caller.pc) {
            (false, _) => None,
            (true, 0) => Some(UnwindStep::Root),
            (true, _) => Some(UnwindStep::Caller(caller, entry.is_signal_trampoline())),
        }
    }
}

/// Where rules are looked for.
struct RulePlace<'a, S> {
    section: &'a S,
    bases: &'a BaseAddresses,
    at: u64,
}

fn bases(module: &Module) -> BaseAddresses {
    let tables = &module.tables;
    BaseAddresses::default()
        .set_eh_frame(tables.eh_frame.as_ref().map_or(0, |table| table.address))
        .set_eh_frame_hdr(tables.eh_frame_hdr.as_ref().map_or(0, |table| table.address))
        .set_text(tables.text)
        .set_got(tables.got)
}

/// By the sorted table of .eh_frame_hdr; `None` if there is no such table.
fn by_index<'a>(
    module: &'a Module,
    section: &EhFrame<Bytes<'a>>,
    bases: &BaseAddresses,
    at: u64,
) -> Option<Option<UnwindEntry<'a>>> {
    let header = module.tables.eh_frame_hdr.as_ref()?;
    // Others would let gimli count beyond 64 bits.
    if header.bytes.get(2..4)? != ENCODINGS_OF_INDEX {
        return None;
    }
    let parsed = EhFrameHdr::new(&header.bytes, LittleEndian).parse(bases, 8).ok()?;
    let begin = parsed.eh_frame_ptr().direct().ok()?;
    let table = parsed.table()?;
    let find = || {
        // gimli's own way from the pointer to the offset panics in debug builds where the table is damaged.
        let pointer = table.lookup(at, bases).ok()?.direct().ok()?;
        let offset = usize::try_from(pointer.checked_sub(begin)?).ok()?;
        let entry = section.fde_from_offset(bases, offset.into(), EhFrame::cie_from_offset).ok()?;
        entry.contains(at).then_some(entry)
    };
    Some(find())
}

/// The rules of one row, and what they are about.
struct RegisterRules<'a, S> {
    section: &'a S,
    encoding: Encoding,
    registers: &'a Registers,
    memory: &'a dyn Memory,
}

impl<'s, S: UnwindSection<Bytes<'s>>> RegisterRules<'_, S> {
    fn caller(&self, row: &UnwindTableRow<usize>) -> Option<Registers> {
        let frame = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                self.registers.get(register.0)?.wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => self.evaluate(*expression, None)?,
        };
        let mut caller = *self.registers;
        caller.set(SP, frame);
        for (number, rule) in row.registers() {
            let at = |offset: &i64| frame.wrapping_add_signed(*offset);
            let value = match rule {
                RegisterRule::Offset(offset) => self.memory.word(at(offset))?,
                RegisterRule::ValOffset(offset) => at(offset),
                RegisterRule::Register(other) => self.registers.get(other.0)?,
                RegisterRule::Expression(expression) => {
                    self.memory.word(self.evaluate(*expression, Some(frame))?)?
                }
                RegisterRule::ValExpression(expression) => {
                    self.evaluate(*expression, Some(frame))?
                }
                RegisterRule::Constant(value) => *value,
                _ => continue,
            };
            caller.set(number.0, value);
        }
        Some(caller)
    }

    fn evaluate(&self, expression: UnwindExpression<usize>, first: Option<u64>) -> Option<u64> {
        let expression = expression.get(self.section).ok()?;
        let mut evaluation = Evaluation::new(expression.0, self.encoding);
        evaluation.set_max_iterations(OPERATIONS_MAX);
        if let Some(first) = first {
            evaluation.set_initial_value(first);
        }
        let mut result = evaluation.evaluate().ok()?;
        loop {
            result = match result {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    let is_pc = cfg!(target_arch = "x86_64") && register.0 == RA;
                    let value =
                        if is_pc { self.registers.pc } else { self.registers.get(register.0)? };
                    evaluation.resume_with_register(Value::Generic(value)).ok()?
                }
                EvaluationResult::RequiresMemory { address, size, .. } => {
                    let mut word = [0; 8];
                    self.memory.fill(address, word.get_mut(..usize::from(size))?)?;
                    let value = Value::Generic(u64::from_le_bytes(word));
                    evaluation.resume_with_memory(value).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.as_result().last()?.location {
            Location::Address { address } => Some(address),
            _ => None,
        }
    }
}

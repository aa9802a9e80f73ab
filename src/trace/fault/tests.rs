use super::*;
use crate::trace::contents::Contents;

const MAPS: &[u8] = b"\
00400000-00401000 r-xp 00000000 08:01 77                                 /opt/prog\n\
00401000-00402000 r--p 00001000 08:01 77                                 /opt/prog\n\
00402000-00403000 rw-p 00002000 08:01 78                                 /opt/data\n\
7f0000000000-7f0000001000 ---p 00000000 00:00 0 \n\
7f0000001000-7f0000800000 rw-p 00000000 00:00 0 \n\
7ffe00000000-7ffe00021000 rw-p 00000000 00:00 0                          [stack]\n";

struct NoMemory;

impl Memory for NoMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        // ud2 at the beginning of the program, nothing elsewhere.
        if address == 0x40_0000 && into.len() >= 2 {
            into[..2].copy_from_slice(&[0x0f, 0x0b]);
            return 2;
        }
        0
    }
}

struct Short;

impl MappedFiles for Short {
    fn open(&self, _: &Map) -> Result<Box<dyn Contents>, &'static str> {
        Ok(Box::new(vec![0; 16]))
    }
}

fn explain(signal: Signal, code: i32, address: u64, (pc, sp): (u64, u64)) -> String {
    let registers = Registers::new(pc, sp);
    let maps = Maps::parse(MAPS);
    let context = FaultContext {
        registers: &registers,
        maps: &maps,
        memory: &NoMemory,
        files: &Short,
        stack_limit: Some(8 << 20),
    };
    context.explain(&Fault { signal, code, address, syscall: 5 }).unwrap_or_default()
}

fn segv(address: u64) -> String {
    explain(Signal::SEGV, 1, address, (0x40_0010, 0x7ffe_0000_1000))
}

#[test]
fn addresses_are_decoded() {
    for (address, expected) in [
        (0, "null pointer"),
        (8, "null pointer plus 0x8"),
        (0_u64.wrapping_sub(16), "null pointer minus 0x10"),
        (0x40_1010, "write to 0x401010 in read-only data of prog, not writable"),
        (0x40_3008, "0x403008: not mapped, 8 bytes past the end of data of data"),
        (0x3f_fff0, "0x3ffff0: not mapped, 16 bytes before code of prog"),
        (0x7ffd_fff0_0000 - (3 << 20), "0x7ffdffc00000: not mapped, and nothing near it is"),
        (0x7974_7265_7571, "0x797472657571: not mapped; its bytes are the text \"querty\""),
        (
            0x7f00_0000_2000 ^ 1 << 40,
            "0x7e0000002000: not mapped, and with bit 40 flipped it is in anonymous data: possible memory bit flip",
        ),
    ] {
        assert_eq!(segv(address), expected);
    }
}

#[test]
fn stack_overflows_are_known_by_the_stack_pointer() {
    let at = 0x7ffd_ffff_f000;
    let text = explain(Signal::SEGV, 1, at, (0x40_0010, at + 8));
    assert_eq!(
        text,
        "stack overflow: 0x7ffdfffff000 is below the main thread's stack of 132 KiB, limit 8192 KiB"
    );
    let at = 0x7f00_0000_0ff8;
    let text = explain(Signal::SEGV, 2, at, (0x40_0010, at));
    assert!(text.contains("guard page below a thread's stack of 8188 KiB"), "{text}");
    let elsewhere = explain(Signal::SEGV, 2, at, (0x40_0010, 0x7ffe_0000_1000));
    assert_eq!(elsewhere, "0x7f0000000ff8 in anonymous inaccessible memory");
}

#[test]
fn jumps_are_distinguished_from_accesses() {
    let wild = explain(Signal::SEGV, 1, 0, (0, 0x7ffe_0000_1000));
    assert_eq!(wild, "jump to null pointer");
    let data = explain(Signal::SEGV, 2, 0x40_2000, (0x40_2000, 0x7ffe_0000_1000));
    assert_eq!(data, "jump to 0x402000 in data of data, not executable");
}

#[test]
fn other_signals_have_causes() {
    let truncated = explain(Signal::BUS, 2, 0x40_2010, (0x40_0010, 0));
    assert!(truncated.contains("byte 8208 of /opt/data, which has 16 bytes"), "{truncated}");
    assert_eq!(explain(Signal::SYS, 1, 0, (0, 0)), "system call number 5");
    assert_eq!(explain(Signal::SEGV, 0, 0, (0, 0)), "", "it was sent");
    if cfg!(target_arch = "x86_64") {
        assert!(explain(Signal::ILL, 1, 0, (0x40_0000, 0)).starts_with("ud2"));
        let text = explain(Signal::SEGV, SI_KERNEL, 0, (0x40_0000, 0x4141_4141_4141_4141));
        assert_eq!(text, "address not canonical: rsp=0x4141414141414141 (the text \"AAAAAAAA\")");
    }
    let fault = |signal, code| Fault { signal, code, address: 0, syscall: 0 }.reason();
    assert_eq!(fault(Signal::FPE, 1), "integer division by zero");
    assert_eq!(fault(Signal::SEGV, 77), "si_code 77");
}

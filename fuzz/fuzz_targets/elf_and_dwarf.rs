#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| childminder::fuzzing::run("elf_and_dwarf", bytes));

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| childminder::fuzzing::run("cgroup_files", bytes));

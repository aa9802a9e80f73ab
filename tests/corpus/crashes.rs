//! Faults of the program itself.

use crate::case::{Case, case};
use crate::exits::full_tmpfs;

const CRASHED: &str = "crashed likely certain";

pub fn cases() -> Vec<Case> {
    let crash = |name: &str, cause: &str, number| {
        case(format!("crash-{name}"), cause, CRASHED, &format!("exec \"$CM\" \"$DEATHS\" {name}"))
            .never("oom")
            .status(128 + number)
    };
    let abort = "abort(3)|assert|abort";
    let mut cases = vec![
        crash("null", "it wrote through a null pointer", 11),
        crash("thread-null", "a thread of it wrote through a null pointer", 11),
        crash("stack", "its stack overflowed", 11),
        crash("abort", "it called abort(3)", 6).says(abort),
        crash("assert", "an assertion failed", 6).says("assert"),
        crash("double-free", "malloc(3) found a double free", 6).says("malloc|heap"),
        crash("invalid-free", "malloc(3) found an invalid pointer", 6).says("malloc|heap"),
        crash("divide", "it divided by zero", 8),
        crash("illegal", "it executed an illegal instruction", 4),
        crash("trap", "it raised SIGTRAP", 5),
        crash("truncated-map", "it touched a mapped file beyond its end", 7),
        crash("seccomp", "a seccomp filter forbade a system call", 31).says("seccomp").never("of this user"),
        case("crash-strict", "seccomp's strict mode forbade a system call: SIGKILL from the kernel",
            "crashed likely certain possible | unknown possible", r#"exec "$CM" "$DEATHS" strict"#)
            .says("seccomp").never("of this user").status(137),
        case("crash-late", "it wrote through a null pointer after a while", CRASHED,
            r#"exec "$CM" sh -c 'sleep 1.2; exec "$DEATHS" null'"#).status(139),
        case("python-ctypes", "Python read address 0 by ctypes", CRASHED,
            r#"exec "$CM" /usr/bin/python3 -c 'import ctypes; ctypes.string_at(0)'"#).tool("/usr/bin/python3").status(139),
        case("python-abort", "os.abort()", CRASHED,
            r#"exec "$CM" /usr/bin/python3 -c 'import os; os.abort()'"#).tool("/usr/bin/python3").says(abort).status(134),
        case("cxx-exception", "an uncaught exception of C++", CRASHED,
            r#"echo '#include <stdexcept>
int main() { throw std::runtime_error("lost"); }' > throw.cc; c++ -o throw throw.cc || exit 98; exec "$CM" ./throw"#)
            .tool("c++").says("exception").status(134),
        case("cxx-bad-alloc", "std::bad_alloc: RLIMIT_AS", CRASHED,
            r#"echo '#include <vector>
int main() { std::vector<char> all(1UL << 40); return all[7]; }' > alloc.cc; c++ -O0 -o alloc alloc.cc || exit 98; exec "$CM" ./alloc"#)
            .tool("c++").says("exception").status(134),
        case("stack-protector", "the stack protector found an overwritten frame", CRASHED,
            r#"echo '#include <string.h>
int main(int n, char **v) { char small[8]; memset(small, n, 8 + 64 * n); return small[n]; }' > smash.c
cc -O0 -w -fstack-protector-all -o smash smash.c || exit 98; exec "$CM" ./smash"#).says(abort).status(134),
        case("full-tmpfs-map", "it wrote to a mapped file on a full tmpfs", CRASHED,
            &full_tmpfs(r#"exec "$CM" -l ../log "$DEATHS" full-map map"#))
            .says("room|full").never("the program itself").root().status(135),
        case("full-tmpfs-map-elsewhere", "it wrote to a mapped file on a full tmpfs elsewhere", CRASHED,
            &full_tmpfs(r#"cd ..; exec "$CM" --child-directory full "$DEATHS" full-map map"#))
            .says("room|full").never("the program itself").root().status(135),
    ];
    cases.extend([case(
        "crash-restarted",
        "it crashed, and crashed again after -s",
        CRASHED,
        r#"exec "$CM" -s -t 1 --kill-after 0.1 "$DEATHS" null"#,
    )
    .status(139)]);
    cases
}

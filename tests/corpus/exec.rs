//! The job could not be executed, and why.

use crate::case::{Case, case};

/// An ELF header of that machine, as the first bytes of a file `$1`.
const ELF: &str = r#"
# elf FILE MACHINE (octal, low byte) BYTES: the head of an ELF file for 64 bits.
elf() { printf '\177ELF\002\001\001\000\000\000\000\000\000\000\000\000\002\000\'"$2"'\000\001\000\000\000' > "$1"
        head -c 4000 /dev/zero >> "$1"; head -c "$3" "$1" > "$1.cut"; mv "$1.cut" "$1"; chmod 755 "$1"; }
"#;

pub fn cases() -> Vec<Case> {
    let mut cases = missing();
    cases.extend(no_program());
    cases.extend(refused());
    cases.extend(search());
    cases
}

fn failed(name: &str, cause: &str, script: &str, status: i32) -> Case {
    case(format!("exec-{name}"), cause, "exec_failed certain", &format!("{ELF}{script}"))
        .status(status)
}

/// A file `job` of that text (for printf(1)) which is executable, and childminder over it.
fn file(text: &str) -> String {
    format!("printf '{text}' > job; chmod 755 job; exec \"$CM\" ./job")
}

fn missing() -> Vec<Case> {
    vec![
        failed("missing", "no such file", r#"exec "$CM" ./missing"#, 127).says("No such file").says("./missing"),
        failed("missing-path", "no such command on PATH", r#"exec "$CM" no-such-command-at-all"#, 127).says("PATH"),
        failed("missing-directory", "its directory is not there", r#"exec "$CM" /no/such/place/tool"#, 127).says("/no"),
        failed("not-a-directory", "a part of its path is a file", r#": > file; exec "$CM" file/tool"#, 127)
            .says("Not a directory").says("file"),
        failed("dangling-link", "it is a symbolic link to nothing", r#"ln -s nowhere job; exec "$CM" ./job"#, 127).says("nowhere|link"),
        failed("interpreter", "the interpreter of its first line is not there", &file(r"#!/no/such/perl -w\nx\n"), 126)
            .says("interpreter").says("/no/such/perl"),
        failed("crlf", "its first line ends with CR LF", &file(r"#!/bin/sh\r\necho x\r\n"), 126)
            .says("interpreter").says(r"/bin/sh\r"),
        failed("env-missing-argument", "its interpreter is a relative path to nothing", &file(r"#!venv/bin/python\nx\n"), 126)
            .says("interpreter").says("venv/bin/python"),
        failed("loader", "its dynamic loader is not there",
            r#"echo 'int main(void) { return 0; }' > a.c; cc -Wl,--dynamic-linker=/no/such/ld.so -o job a.c || exit 98; exec "$CM" ./job"#, 126)
            .says("/no/such/ld.so").says("loader"),
        failed("interpreter-path", "the interpreter of a script on PATH is not there",
            r#"mkdir bin; printf '#!/no/such/perl\n' > bin/tool; chmod 755 bin/tool; PATH=$PWD/bin:$PATH; exec "$CM" tool"#, 126)
            .says("interpreter").says("/no/such/perl"),
    ]
}

fn no_program() -> Vec<Case> {
    vec![
        failed("plain", "its file is not executable", r#"echo x > job; exec "$CM" ./job"#, 126).says("permission|executable"),
        failed("directory", "it is a directory", r#"mkdir job; exec "$CM" ./job"#, 126).says("directory"),
        failed("directory-path", "it is a directory on PATH", r#"mkdir -p bin/tool; PATH=$PWD/bin; exec "$CM" tool"#, 126).says("directory"),
        failed("architecture", "it is for another architecture (AArch64 or x86-64)",
            r#"case $(uname -m) in x86_64) elf job 267 4000;; *) elf job 076 4000;; esac; exec "$CM" ./job"#, 126)
            .says("architecture").says("aarch64|x86-64|x86_64"),
        failed("truncated", "it is an ELF file that was cut after its first bytes",
            r#"head -c 40 /bin/ls > job; chmod 755 job; exec "$CM" ./job"#, 126).says("truncated|cut|not complete|incomplete"),
        failed("truncated-magic", "it is an ELF file of four bytes",
            r#"printf '\177ELF' > job; chmod 755 job; exec "$CM" ./job"#, 126).says("truncated|cut|not complete|incomplete"),
        // The kernel finds out behind the point of no return, and ends the process by a fault.
        case("exec-truncated-more", "it is an ELF file without its last part", "crashed likely certain",
            r#"head -c 1000 /bin/ls > job; chmod 755 job; exec "$CM" ./job"#).status(139),
        failed("binary", "it is a binary file of no known format",
            r#"printf 'GIF89a\000\001echo ran\n' > job; chmod 755 job; exec "$CM" ./job"#, 126).says("format|binary"),
        failed("binary-path", "the same, on PATH",
            r#"mkdir bin; printf '\177ELF\000\n' > bin/tool; chmod 755 bin/tool; PATH=$PWD/bin:$PATH; exec "$CM" tool"#, 126),
        case("exec-script-plain", "a script without #! is run by sh, and returned 7", "exit_nonzero certain",
            &file(r"exit 7\n")).status(7),
        case("exec-script-empty", "an empty file is an empty script", "success certain", &file("")).status(0),
        case("exec-script-binary-tail", "a script without #! with binary data behind its first lines",
            "exit_nonzero certain", &file(r"echo ran\nexit 7\n\000\001")).status(7),
    ]
}

fn refused() -> Vec<Case> {
    vec![
        failed("busy", "its file is open for writing",
            r#"cp /bin/true job; exec 9>>job; exec "$CM" ./job"#, 126).says("busy").says("writ"),
        failed("interpreter-plain", "its interpreter is not executable",
            r#"echo x > perl; printf '#!%s/perl\n' "$PWD" > job; chmod 755 job; exec "$CM" ./job"#, 126).says("interpreter"),
        failed("interpreter-directory", "its interpreter is a directory", &file(r"#!/tmp\n"), 126).says("interpreter").says("/tmp"),
        failed("interpreter-binary", "its interpreter is not a program",
            r#"printf 'x\000' > perl; chmod 755 perl; printf '#!%s/perl\n' "$PWD" > job; chmod 755 job; exec "$CM" ./job"#, 126),
        failed("closed-directory", "its directory may not be searched",
            r#"mkdir closed; cp /bin/true closed/job; chmod 600 closed; "$CM" closed/job; r=$?; chmod 700 closed; exit $r"#, 126)
            .says("permission").user(),
        failed("noexec", "its filesystem is mounted noexec",
            r#"mkdir no; exec unshare -m sh -c 'mount -t tmpfs -o noexec none no && cp /bin/true no/job && exec "$CM" no/job'"#, 126)
            .says("noexec").root(),
        failed("nproc", "RLIMIT_NPROC: the user may have no more processes",
            r#"exec prlimit --nproc=1 "$CM" true"#, 125).says("RLIMIT_NPROC").user(),
        failed("too-big", "its arguments and environment are too long together", TOO_BIG, 126).says("argument").says("environment|limit"),
        failed("link-loop", "its path is a loop of symbolic links", r#"ln -s job job; exec "$CM" ./job"#, 126).says("link"),
        failed("long-name", "its name is longer than names may be",
            r#"exec "$CM" "./$(head -c 300 /dev/zero | tr '\0' x)""#, 126).says("too long"),
    ]
}

/// Finds how much fits into the argument list of `true`, and gives childminder just that: what it adds to
/// the environment is then too much.
const TOO_BIG: &str = r#"ln -s "$CM" c; cp /bin/true t; exec perl -e '
sub fits { my $n = shift; my @a = (q(x) x 100000) x ($n / 100000); push @a, q(x) x ($n % 100000);
           @with = @a; system(q(./c), q(-l), q(stderr), q(./t), @a) != -1 }
open E, q(>&STDERR); open STDERR, q(>/dev/null);
my ($low, $high) = (100000, 8000000);
while ($high - $low > 1) { my $middle = int(($low + $high) / 2); fits($middle) ? ($low = $middle) : ($high = $middle) }
open STDERR, q(>&E); my @a = (q(x) x 100000) x ($low / 100000); push @a, q(x) x ($low % 100000);
exec q(./c), q(./t), @a'"#;

fn search() -> Vec<Case> {
    let found = |name: &str, cause: &str, script: &str| {
        case(format!("path-{name}"), cause, "success certain", script).status(0)
    };
    vec![
        found(
            "long",
            "an element of PATH is longer than paths may be; true is in the next",
            r#"PATH="/$(head -c 5000 /dev/zero | tr '\0' x):$PATH"; exec "$CM" true"#,
        ),
        found(
            "long-name",
            "an element of PATH is longer than names may be; true is in the next",
            r#"PATH="/$(head -c 300 /dev/zero | tr '\0' x):$PATH"; exec "$CM" true"#,
        ),
        found(
            "loop",
            "an element of PATH is a loop of links; true is in the next",
            r#"ln -s loop loop; PATH="$PWD/loop:$PATH"; exec "$CM" true"#,
        ),
        found(
            "loop-file",
            "a file on PATH is a loop of links; true is in the next",
            r#"mkdir bin; ln -s true bin/true; PATH="$PWD/bin:$PATH"; exec "$CM" true"#,
        ),
        found(
            "not-directory",
            "an element of PATH is a file; true is in the next",
            r#": > file; PATH="$PWD/file:$PATH"; exec "$CM" true"#,
        ),
        found(
            "no-interpreter",
            "a script on PATH has no interpreter; true is in the next",
            r#"mkdir bin; printf '#!/no/such\n' > bin/true; chmod 755 bin/true; PATH="$PWD/bin:$PATH"; exec "$CM" true"#,
        ),
    ]
}

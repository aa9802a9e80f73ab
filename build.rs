//! Passes the git revision of the sources to `childminder_build_info`, and has the linker put the code that every
//! run needs side by side.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a build script reads the environment, starts programs and prints to cargo"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The functions of an ordinary run. `build/make-startup-order` writes it and says more.
const STARTUP_ORDER: &str = "build/startup-order.txt";

fn main() {
    println!("cargo::rerun-if-env-changed=CHILDMINDER_REVISION");
    println!("cargo::rerun-if-changed={STARTUP_ORDER}");
    pass_revision();
    order_startup_code();
}

fn pass_revision() {
    // A packager who builds from an archive names the revision himself.
    if env::var_os("CHILDMINDER_REVISION").is_some() {
        return;
    }
    for file in [".git/HEAD", ".git/logs/HEAD"] {
        if Path::new(file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    // Sources below another repository have no revision of their own.
    let words = ["--git-dir=.git", "rev-parse", "--short=12", "HEAD"];
    let output = Command::new("git").args(words).output();
    let revision = output.ok().filter(|output| output.status.success());
    if let Some(revision) = revision.and_then(|output| String::from_utf8(output.stdout).ok()) {
        println!("cargo::rustc-env=CHILDMINDER_REVISION={}", revision.trim());
    }
}

/// Each page of code that is touched costs a fault, and maps 15 others. Not for debug builds, where start-up does not
/// matter, nor where the linker cannot do it: the program is the same then, and starts a little later.
fn order_startup_code() {
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let Some(directory) = env::var_os("CARGO_MANIFEST_DIR").filter(|_| is_release) else { return };
    let order = PathBuf::from(directory).join(STARTUP_ORDER);
    let Some(order) = order.to_str().filter(|path| !path.contains(',')) else { return };
    // Names that are not there are no error: some depend on the compiler's version.
    let arguments =
        [format!("-Wl,--symbol-ordering-file={order}"), "-Wl,--no-warn-symbol-ordering".to_owned()];
    if can_link(&arguments) {
        for argument in arguments {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}

/// Links a small program in the way that ours will be. Of the linkers in use only lld has that option.
fn can_link(arguments: &[String]) -> bool {
    let of_cargo = |name| env::var(name).unwrap_or_default();
    let Some(place) = env::var_os("OUT_DIR").map(PathBuf::from) else { return false };
    let source = place.join("order.rs");
    if fs::write(&source, "fn main() {}\n").is_err() {
        return false;
    }
    let mut compiler = Command::new(of_cargo("RUSTC"));
    compiler.arg("--target").arg(of_cargo("TARGET")).arg("-o").arg(place.join("order"));
    let flags = of_cargo("CARGO_ENCODED_RUSTFLAGS");
    compiler.args(flags.split('\u{1f}').filter(|flag| !flag.is_empty()));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut flag = std::ffi::OsString::from("-Clinker=");
        flag.push(linker);
        compiler.arg(flag);
    }
    compiler.args(arguments.iter().map(|argument| format!("-Clink-arg={argument}")));
    let status = compiler.arg(&source).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

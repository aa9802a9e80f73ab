//! Passes the git revision of the sources to `childminder_build_info`.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a build script reads the environment, starts git and prints to cargo"
)]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=CHILDMINDER_REVISION");
    // A packager who builds from an archive names the revision himself.
    if std::env::var_os("CHILDMINDER_REVISION").is_some() {
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

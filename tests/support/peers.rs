//! Programs that other people wrote and that ours must get along with: found, started and asked.

#![allow(dead_code, reason = "each test file uses its part of it")]
#![allow(
    clippy::allow_attributes,
    reason = "an expectation would fail in the files that use it all"
)]
#![allow(missing_docs, reason = "the names say it")]
#![allow(clippy::disallowed_methods, reason = "tests start programs and read the environment")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command};

use crate::support::{PATIENCE, Place, skip, wait_until};

/// A program on PATH; its absence is told.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| {
        fs::metadata(file)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    });
    if found.is_none() {
        skip(&format!("what {name} thinks of us"), "it is not on PATH (tests/run gets it)");
    }
    found
}

/// A program in the background, ended with the test. What it says is in a file of the place.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub fn start(place: &Place, mut command: Command) -> Daemon {
        let program = PathBuf::from(command.get_program());
        let name = program.file_name().expect("a name").to_string_lossy().into_owned();
        let log = place.file(&format!("{name}.log"));
        let output = fs::File::create(&log).expect("a file");
        command.stdout(output.try_clone().expect("a descriptor")).stderr(output);
        Daemon { child: command.spawn().expect("it starts"), log }
    }

    pub fn says(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// Waits until it has said where it listens, as the programs of Prometheus do.
    pub fn address(&mut self) -> String {
        let mut found = None;
        wait_until("it listens", || {
            let text = self.says();
            assert!(!self.has_ended(), "it ended: {text}");
            let words = text.split_ascii_whitespace();
            // Prometheus tells first what it was asked for, which is any port.
            let mut addresses = words
                .filter_map(|word| word.strip_prefix("address=127.0.0.1:"))
                .filter(|port| *port != "0");
            let address = addresses.next();
            found = address.map(|port| format!("127.0.0.1:{port}"));
            found.is_some()
        });
        found.expect("found")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Asks over HTTP; the head of the answer and its body, which are empty if nobody answers.
pub fn ask(address: &str, request: &str, body: &str) -> (String, String) {
    let text = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        // In HTTP/1.0 the end of the connection is the end of the answer.
        write!(
            stream,
            "{request} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let text = text().unwrap_or_default();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    (head.to_owned(), body.to_owned())
}

pub fn get(address: &str, path: &str) -> String {
    ask(address, &format!("GET {path}"), "").1
}

/// The same in a form of our choice.
pub fn get_as(address: &str, path: &str, form: &str) -> String {
    let request = format!("GET {path} HTTP/1.0\r\nAccept: {form}\r\nX-Rest:");
    ask(address, &request, "").1
}

/// The value of the first series that begins with the name and has all these words.
pub fn value(text: &str, name: &str, words: &[&str]) -> Option<f64> {
    let is_it = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && words.iter().all(|word| line.contains(word))
    };
    text.lines().find(is_it)?.rsplit_once(' ')?.1.parse().ok()
}

/// Lets promtool judge: `words` are its arguments, `input` is what it reads.
pub fn promtool(place: &Place, words: &[&str], input: &str) -> Option<(bool, String)> {
    let mut command = place.command(tool("promtool")?);
    command.args(words).stdin(fs::File::open(place.write(".input", input)).expect("a file"));
    let output = command.output().expect("promtool starts");
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

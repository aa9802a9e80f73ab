//! `childminder --doctor`: which evidence can be had here, and what to do about the rest.
//!
//! What a run would use is tried as a run would; nothing is guessed from version numbers, and nothing stays.

use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use serde_json::json;

use crate::files::{Directory, Links};
use crate::model::text::Escaped;
use crate::observe::cgroup::MemoryCgroup;
use crate::observe::host;
use crate::plan::DoctorPlan;
use crate::sys::cgroup::AttemptCgroup;
use crate::sys::proc_events::ProcEvents;
use crate::sys::{clock, pidfd_info, ptrace};

/// How long a collector is waited for.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// One thing that was tried.
struct Finding {
    name: &'static str,
    /// What it is good for.
    purpose: &'static str,
    /// What was found, or why it is unavailable.
    result: Result<String, String>,
    /// How to get it.
    advice: &'static str,
}

/// Tries all, and writes a line for each; returns 0 if all of it can be had, else 1.
///
/// # Errors
///
/// Of `out`.
pub fn doctor(plan: &DoctorPlan, out: &mut dyn Write) -> io::Result<u8> {
    let findings = findings(plan);
    for finding in &findings {
        let line = if plan.is_json { as_json(finding) } else { in_words(finding) };
        writeln!(out, "{line}").map_err(|error| {
            io::Error::new(error.kind(), format!("write to standard output: {error}"))
        })?;
    }
    Ok(u8::from(findings.iter().any(|finding| finding.result.is_err())))
}

fn in_words(finding: &Finding) -> String {
    let Finding { name, purpose, result, advice } = finding;
    match result {
        Ok(found) => format!("yes  {name}: {}", Escaped(found)),
        Err(why) => format!("no   {name}: {} ({purpose}); {advice}", Escaped(why)),
    }
}

fn as_json(finding: &Finding) -> String {
    let Finding { name, purpose, result, advice } = finding;
    let (found, why) = (result.as_ref().ok(), result.as_ref().err());
    let advice = why.map(|_| advice);
    json!({
        "name": name, "available": result.is_ok(), "purpose": purpose, "found": found, "reason": why,
        "advice": advice,
    })
    .to_string()
}

fn findings(plan: &DoctorPlan) -> Vec<Finding> {
    let root = Path::new("/");
    let mut findings = ends(root);
    findings.extend(host_state(root));
    findings.push(Finding {
        name: "log directory",
        purpose: "the log of a run",
        result: match &plan.log_directory {
            Some(directory) => writable_directory(directory),
            None => Ok("not a directory".into()),
        },
        advice: "name one that you may write to with -l DIR",
    });
    if let Some(record) = &plan.record {
        findings.push(Finding {
            name: "central record",
            purpose: "a row of each run, for nanny",
            result: writable_file(record),
            advice: "make it writable, or name another file with --central-log FILE",
        });
    }
    for endpoint in &plan.endpoints {
        findings.push(Finding {
            name: "collector",
            purpose: "traces, metrics and logs by OTLP",
            result: reachable(endpoint),
            advice: "start it, or correct OTEL_EXPORTER_OTLP_ENDPOINT",
        });
    }
    findings
}

/// What shows why a process ended.
fn ends(root: &Path) -> Vec<Finding> {
    let cgroup = MemoryCgroup::find(root);
    let counter =
        cgroup.as_ref().and_then(|cgroup| Some((cgroup.counter_name(), cgroup.oom_kills()?)));
    let deaths = ProcEvents::open().map(|_| "the proc connector".to_owned());
    let deaths = deaths.or_else(|connector| match pidfd_info::probe() {
        Ok(()) => Ok("PIDFD_GET_INFO, for processes that live for a while".to_owned()),
        Err(info) => {
            Err(format!("{connector}: {}; {info}: {}", connector.source.desc(), info.source.desc()))
        }
    });
    vec![
        Finding {
            name: "OOM counter of the cgroup",
            purpose: "oom_killed for certain",
            result: match counter {
                Some((name, count)) => Ok(format!("{name}, {count} so far")),
                None => Err("no cgroup with a memory controller is to be seen".into()),
            },
            advice: "run under systemd, Slurm or a container with memory accounting",
        },
        Finding {
            name: "OOM counter of the host",
            purpose: "oom_killed without a cgroup",
            result: host::oom_kills(root)
                .map(|count| format!("/proc/vmstat, {count} so far"))
                .ok_or_else(|| "/proc/vmstat has no oom_kill".into()),
            advice: "Linux 4.13 or later has it",
        },
        Finding {
            name: "kernel log",
            purpose: "which process the OOM killer chose, and hardware errors",
            result: match host::can_read_kernel_log() {
                true => Ok("/dev/kmsg".into()),
                false => Err("/dev/kmsg cannot be read".into()),
            },
            advice: "root, CAP_SYSLOG, or kernel.dmesg_restrict=0",
        },
        Finding {
            name: "deaths of descendants",
            purpose: "descendant_killed, and what each descendant died of",
            result: deaths,
            advice: "Linux 6.6 or later, or root; or --trace",
        },
        Finding {
            name: "tracing",
            purpose: "--trace: senders of signals, crash reports",
            result: ptrace::obstacle().map_or_else(|| Ok("no setting forbids it".into()), Err),
            advice: "see ptrace(2) and docs/tracing.md",
        },
        Finding {
            name: "cgroup of its own for each attempt",
            purpose: "to end and to wait for a whole tree at once; without it the tree is walked",
            result: match AttemptCgroup::create(0) {
                Some(_) => Ok("it can be made and removed".into()),
                None => Err("no cgroup v2 below our own can be made with cgroup.kill".into()),
            },
            advice: "Linux 5.14 or later, cgroup v2, and a delegated cgroup (systemd: Delegate=yes)",
        },
    ]
}

/// What the kernel says of the host, and how it is set up.
fn host_state(root: &Path) -> Vec<Finding> {
    let pattern = read(root, "proc/sys/kernel/core_pattern");
    vec![
        Finding {
            name: "pressure stall information",
            purpose: "whether the host was short of memory, CPU or I/O",
            result: read(root, "proc/pressure/memory").map(|_| "/proc/pressure".into()),
            advice: "boot with psi=1",
        },
        Finding {
            name: "core dumps",
            purpose: "where the core of a crash is",
            result: pattern.and_then(|pattern| match pattern.trim() {
                "" => Err("kernel.core_pattern is empty".into()),
                pattern => Ok(format!("kernel.core_pattern is {pattern}")),
            }),
            advice: "set kernel.core_pattern, and ulimit -c",
        },
        Finding {
            name: "clock",
            purpose: "times that can be compared between hosts",
            result: match clock::is_synchronized() {
                true => Ok("the kernel says that it is synchronized".into()),
                false => Err("the kernel says that it is not synchronized".into()),
            },
            advice: "run chronyd or systemd-timesyncd",
        },
    ]
}

fn read(root: &Path, name: &str) -> Result<String, String> {
    host::text(root, name).map_err(|error| format!("/{name}: {error}"))
}

/// Whether a file can be made there; the directory itself is made by a run.
fn writable_directory(directory: &Path) -> Result<String, String> {
    let exists = directory.exists();
    let above =
        directory.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = if exists { directory } else { above };
    match takes_files(place) {
        Ok(()) if exists => Ok(directory.display().to_string()),
        Ok(()) => Ok(format!("{} can be made", directory.display())),
        Err(why) => Err(why),
    }
}

/// Whether a file can be made in a directory that is there.
fn takes_files(directory: &Path) -> Result<(), String> {
    let made =
        Directory::open(directory, Links::Trusted).and_then(|open| open.begin(0o600).map(drop));
    made.map_err(|error| format!("{}: {error}", directory.display()))
}

fn writable_file(file: &Path) -> Result<String, String> {
    if !file.exists() {
        let above =
            file.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return takes_files(above).map(|()| format!("{} can be made", file.display()));
    }
    match access(file, AccessFlags::W_OK) {
        Ok(()) => Ok(file.display().to_string()),
        Err(errno) => Err(format!("{}: {}", file.display(), errno.desc())),
    }
}

/// Whether somebody listens there; no credentials are sent.
fn reachable(endpoint: &str) -> Result<String, String> {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("http", endpoint));
    let authority = rest.split('/').next().unwrap_or_default();
    // What stands before an @ may be a password.
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let port = if scheme == "https" { 443 } else { 80 };
    let address = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
    let failed = |error: io::Error| format!("{address}: {error}");
    let found = address.to_socket_addrs().map_err(failed)?;
    let mut last = "no address is known".to_owned();
    for one in found {
        match TcpStream::connect_timeout(&one, CONNECT_PATIENCE) {
            Ok(_) => return Ok(format!("{address} accepts connections")),
            Err(error) => last = error.to_string(),
        }
    }
    Err(format!("{address}: {last}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_can_be_written_and_reached_is_found_by_trying() {
        let place = tempfile::tempdir().expect("a directory");
        let path = |name: &str| place.path().join(name);
        assert!(writable_directory(place.path()).is_ok());
        assert!(writable_directory(&path("log")).is_ok_and(|text| text.ends_with("can be made")));
        assert!(writable_directory(&path("no/log")).is_err());
        assert!(writable_file(&path("r.csv")).is_ok());
        assert!(writable_file(&path("no/r.csv")).is_err());
        assert_eq!(std::fs::read_dir(place.path()).expect("ours").count(), 0, "nothing stays");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let text = reachable(&format!("http://user:secret@127.0.0.1:{port}/v1"));
        assert_eq!(text, Ok(format!("127.0.0.1:{port} accepts connections")));
        drop(listener);
        assert!(reachable(&format!("http://127.0.0.1:{port}")).is_err());
    }

    #[test]
    fn a_line_says_how_to_get_what_is_missing() {
        let finding =
            |result| Finding { name: "clock", purpose: "times", result, advice: "run chronyd" };
        assert_eq!(in_words(&finding(Ok("fine".into()))), "yes  clock: fine");
        let missing = finding(Err("it\nis not".into()));
        assert_eq!(in_words(&missing), "no   clock: it\\nis not (times); run chronyd");
        let json: serde_json::Value = serde_json::from_str(&as_json(&missing)).expect("JSON");
        assert_eq!((&json["available"], &json["advice"]), (&false.into(), &"run chronyd".into()));
    }
}

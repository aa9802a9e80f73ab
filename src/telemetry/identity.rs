//! The names by which telemetry knows the job, the same for each of its runs.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use uuid::Uuid;

use crate::plan::{InstanceId, TelemetryPlan};

/// The namespace that the semantic conventions give for `service.instance.id`.
const INSTANCES: Uuid = Uuid::from_u128(0x4d63_009a_8d0f_11ee_aad7_4c79_6ed8_e320);

/// More copies of one job on one host than this share an instance.
const SLOTS_MAX: u32 = 64;

/// Who the job is.
#[derive(Debug)]
pub struct TelemetryIdentity {
    /// `job_name` in Prometheus, `service.name` in OpenTelemetry.
    pub name: String,
    /// The base name of the program.
    pub executable: String,
    /// Whose job it is.
    pub user: String,
    /// The name of the host.
    pub host: String,
    /// The id of this machine (machine-id(5)), if it has one.
    pub machine: Option<String>,
    /// The id of this run.
    pub run_id: String,
    /// `service.instance.id`.
    pub instance: String,
    /// Labels for all metrics (`--metric-label`).
    pub labels: Vec<(String, String)>,
    /// Held as long as we live: it keeps the instance ours.
    _slot: Option<UnixDatagram>,
}

/// What `run` knows of the job.
#[derive(Clone, Debug)]
pub struct JobFacts {
    /// `--name`.
    pub name: Option<String>,
    /// The first word of the command, or the built-in function.
    pub program: String,
    /// Whose job it is.
    pub user: String,
    /// The name of the host.
    pub host: String,
    /// The id of this run.
    pub run_id: String,
}

impl TelemetryIdentity {
    /// Puts it together. Two copies of a job on one host get different instances.
    #[must_use]
    pub fn new(facts: JobFacts, plan: &TelemetryPlan) -> TelemetryIdentity {
        let executable = facts.program.rsplit('/').next().unwrap_or_default().to_owned();
        let service = plan.otlp.as_ref().and_then(|otlp| otlp.service_name.clone());
        let name = facts.name.or(service).unwrap_or_else(|| executable.clone());
        let machine = machine_id();
        let attribute = |name: &str| plan.otlp.as_ref().and_then(|otlp| otlp.attribute(name));
        let (instance, slot) = match (&plan.instance, attribute("service.instance.id")) {
            (InstanceId::Given(id), _) => (id.clone(), None),
            (InstanceId::Random, _) => (facts.run_id.clone(), None),
            (InstanceId::Derived, Some(id)) => (id.to_owned(), None),
            (InstanceId::Derived, None) => {
                let namespace = attribute("service.namespace").unwrap_or_default();
                let machine = machine.as_deref().unwrap_or(&facts.host);
                derive(&format!("{machine}/{namespace}/{name}"))
            }
        };
        TelemetryIdentity {
            name,
            executable,
            user: facts.user,
            host: facts.host,
            machine,
            run_id: facts.run_id,
            instance,
            labels: plan.labels.clone(),
            _slot: slot,
        }
    }
}

/// Derives the instance of the lowest slot that no other process holds.
fn derive(what: &str) -> (String, Option<UnixDatagram>) {
    for slot in 0..SLOTS_MAX {
        let id = Uuid::new_v5(&INSTANCES, format!("{what}/{slot}").as_bytes()).to_string();
        match hold(&id) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            held => return (id, held.ok().filter(leaves_descriptors)),
        }
    }
    (Uuid::new_v5(&INSTANCES, what.as_bytes()).to_string(), None)
}

/// A name that only one process can have, and that goes with it (unix(7), abstract sockets).
fn hold(id: &str) -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(format!("childminder/{id}"))?)
}

/// Returns whether the job can still be started: it needs a pidfd, and perhaps its cgroup's files.
fn leaves_descriptors(held: &UnixDatagram) -> bool {
    let spare: io::Result<Vec<_>> = (0..3).map(|_| held.try_clone()).collect();
    spare.is_ok()
}

fn machine_id() -> Option<String> {
    let text = std::fs::read_to_string("/etc/machine-id").ok()?;
    let id = text.trim();
    (!id.is_empty() && id != "uninitialized").then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: Option<&str>, plan: &TelemetryPlan) -> TelemetryIdentity {
        let facts = JobFacts {
            name: name.map(str::to_owned),
            program: "/usr/bin/train".into(),
            user: "u".into(),
            host: "h".into(),
            run_id: "r".into(),
        };
        TelemetryIdentity::new(facts, plan)
    }

    #[test]
    fn the_name_comes_from_the_option_or_the_program() {
        let plan = TelemetryPlan { instance: InstanceId::Random, ..TelemetryPlan::default() };
        assert_eq!(identity(Some("nightly"), &plan).name, "nightly");
        assert_eq!(identity(None, &plan).name, "train");
        assert_eq!(identity(None, &plan).instance, "r");
    }

    #[test]
    fn two_copies_are_two_instances_and_the_next_run_has_the_first_again() {
        let plan = TelemetryPlan::default();
        let name = format!("copies-{}", std::process::id());
        let first = identity(Some(&name), &plan);
        let second = identity(Some(&name), &plan);
        assert_ne!(first.instance, second.instance);
        let id = first.instance.clone();
        drop(first);
        assert_eq!(identity(Some(&name), &plan).instance, id);
    }
}

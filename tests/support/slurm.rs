//! A Slurm of one node, without systemd: munged, slurmctld and slurmd, all in a directory of their own.

#![allow(missing_docs, reason = "the names say it")]
#![allow(clippy::disallowed_methods, reason = "tests start programs and read the environment")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{User, chown};

use crate::peers::{Daemon, tool};
use crate::support::{Place, is_root, skip, wait_until};

/// The programs, ended with this value: the last that was started first.
pub struct Slurm {
    daemons: Vec<Daemon>,
    place: Place,
}

impl Slurm {
    /// Starts it with that plug-in of `ProctrackType`; `None`, and a line that says why, where it cannot be had.
    pub fn start(proctrack: &str) -> Option<Slurm> {
        let what = format!("a Slurm with proctrack/{proctrack}");
        if !is_root() {
            skip(&what, "only root can start it");
            return None;
        }
        for program in ["munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol"] {
            tool(program)?;
        }
        let Ok(Some(munge)) = User::from_name("munge") else {
            skip(&what, "there is no user munge (the package munge makes it)");
            return None;
        };
        let is_v1 = fs::exists("/sys/fs/cgroup/freezer").unwrap_or(false);
        if proctrack == "cgroup" && !is_v1 {
            // Slurm's plug-in for version 2 asks systemd for a scope.
            skip(&what, "there is no freezer of cgroup version 1");
            return None;
        }
        let place = Place::new();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        for directory in ["munge", "state", "spool"] {
            fs::create_dir(place.file(directory)).expect("a directory");
        }
        let key = place.write("munge/key", &"k".repeat(64));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).expect("ours");
        for file in [place.file("munge"), key] {
            chown(&file, Some(munge.uid), Some(munge.gid)).expect("we are root");
        }
        write_configuration(&place, proctrack);
        let mut slurm = Slurm { daemons: Vec::new(), place };
        slurm.start_daemons();
        Some(slurm)
    }

    fn start_daemons(&mut self) {
        let mut munged = self.place.command("setpriv");
        munged.args(["--reuid", "munge", "--regid", "munge", "--clear-groups", "munged"]);
        munged.args(["--foreground", "--force"]);
        for (option, file) in [
            ("key-file", "key"),
            ("socket", "s"),
            ("pid-file", "pid"),
            ("log-file", "log"),
            ("seed-file", "seed"),
        ] {
            munged.arg(format!("--{option}={}", self.path(&format!("munge/{file}"))));
        }
        self.daemons.insert(0, Daemon::start(&self.place, munged));
        wait_until("munged listens", || self.place.file("munge/s").exists());
        let configuration = self.path("slurm.conf");
        for (program, more) in [("slurmctld", &[][..]), ("slurmd", &["-N", "node"])] {
            let mut daemon = self.place.command(program);
            daemon.args(["-D", "-f", &configuration]).args(more);
            self.daemons.insert(0, Daemon::start(&self.place, daemon));
        }
        wait_until("the node is idle", || {
            for daemon in &mut self.daemons {
                assert!(!daemon.has_ended(), "it ended: {}", daemon.says());
            }
            self.says("sinfo", &["-h", "-o", "%T"]) == "idle"
        });
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    fn path(&self, name: &str) -> String {
        self.place.file(name).to_str().expect("a path that is text").to_owned()
    }

    /// A program of Slurm's.
    pub fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = self.place.command(program);
        command.env("SLURM_CONF", self.path("slurm.conf")).args(words);
        command
    }

    /// What a program of Slurm's prints; empty if it fails.
    pub fn says(&self, program: &str, words: &[&str]) -> String {
        let output = self.command(program, words).stderr(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Submits a script of sh and returns the number of the job.
    pub fn submit(&self, name: &str, options: &[&str], script: &str) -> String {
        let file = self.place.write(&format!("{name}.sh"), &format!("#!/bin/sh\n{script}\n"));
        let (output, file) =
            (self.path(&format!("{name}.out")), file.to_string_lossy().into_owned());
        let words = [&["--parsable", "-o", &output], options, &[&file]].concat();
        let id = self.says("sbatch", &words);
        assert!(id.parse::<u32>().is_ok(), "{name} was not submitted: '{id}'");
        id
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        // What a test that failed leaves behind ends with its job, while there is a slurmd to end it.
        self.command("scancel", &["-f", "-s", "KILL", "-u", "root"]).status().ok();
        let deadline = Instant::now() + GONE_WITHIN;
        while !self.says("squeue", &["-h"]).is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        // In the order of this list: slurmd, slurmctld, munged.
        self.daemons.clear();
        let name = format!("slurm_{NODE}");
        // The cgroups of a Slurm that has ended are empty, and nobody else has this node's name.
        remove_empty(&Path::new("/sys/fs/cgroup/freezer").join(name));
    }
}

/// How long jobs may take to end that were killed; a panic may have brought us here, so that nothing is asserted.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// No other Slurm on this machine calls its node so.
const NODE: &str = "node";

fn remove_empty(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    // Not there, or still in use by another test.
    fs::remove_dir(directory).ok();
}

/// Ports that are free now; both sockets are open until both are known, so that they differ.
fn free_ports() -> [u16; 2] {
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    sockets.map(|socket| socket.local_addr().expect("bound").port())
}

fn write_configuration(place: &Place, proctrack: &str) {
    let dir = place.path().to_str().expect("a path that is text");
    let host = nix::unistd::gethostname().expect("a name").to_string_lossy().into_owned();
    let [controller, node] = free_ports();
    let text = format!(
        "ClusterName=minded\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root\n\
         AuthType=auth/munge\nCryptoType=crypto/munge\nAuthInfo=socket={dir}/munge/s\n\
         StateSaveLocation={dir}/state\nSlurmdSpoolDir={dir}/spool\n\
         SlurmctldPidFile={dir}/slurmctld.pid\nSlurmdPidFile={dir}/slurmd.pid\n\
         SlurmctldPort={controller}\nSlurmdPort={node}\nProctrackType=proctrack/{proctrack}\n\
         TaskPlugin=task/none\nSelectType=select/cons_tres\nSelectTypeParameters=CR_Core\n\
         SchedulerType=sched/builtin\nReturnToService=2\nKillWait=10\nOverTimeLimit=0\n\
         JobAcctGatherType=jobacct_gather/none\nJobCompType=jobcomp/none\n\
         AccountingStorageType=accounting_storage/none\nMpiDefault=none\nPreemptType=preempt/none\n\
         SlurmdParameters=config_overrides\n\
         NodeName={NODE} NodeHostname={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=1000 State=UNKNOWN\n\
         PartitionName=all Nodes={NODE} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:16\n"
    );
    place.write("slurm.conf", &text);
    let cgroups = "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nCgroupMountpoint=/sys/fs/cgroup\n\
         ConstrainCores=no\nConstrainRAMSpace=no\n";
    place.write("cgroup.conf", cgroups);
}

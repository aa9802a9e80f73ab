//! Announces the job in a file that Prometheus reads (`file_sd_configs`), while it runs.
//!
//! All jobs of a host may share the file, so it is changed under a lock and replaced as a whole.
//! Entries of a childminder that is gone without a goodbye are dropped by the next one. A file that
//! is not ours to change, because it is not a list, stays as it is.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::kill;
use serde_json::{Map, Value, json};

use crate::files::{self, Directory, Links, Owner};
use crate::model::proc_stat;
use crate::model::text::{Escaped, printable_json};
use crate::telemetry::identity::TelemetryIdentity;

/// What is asked for the lock, and how often.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// More than the targets of one host need. As JSON it takes 32 times as much memory at worst.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The labels by which an entry is known as ours. Prometheus drops `__meta_*` after relabelling.
const PID: &str = "__meta_childminder_pid";
const START: &str = "__meta_childminder_start";
const HOST: &str = "__meta_childminder_host";

/// Why the file was not changed.
#[derive(Debug)]
pub struct FileSdError {
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for FileSdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "announce the job in {}", Escaped(&self.path.to_string_lossy()))
    }
}

impl std::error::Error for FileSdError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

pub struct ScrapeTarget<'a> {
    /// Where the job's metrics are served.
    pub addresses: &'a [SocketAddr],
    pub metrics_path: &'a str,
    pub is_tls: bool,
    /// The job that is served there.
    pub identity: &'a TelemetryIdentity,
}

/// An entry of ours in the file.
#[must_use = "it must be withdrawn at the end"]
#[derive(Debug)]
pub struct Announcement {
    path: PathBuf,
    entry: Value,
}

impl Announcement {
    /// Adds the entry.
    ///
    /// # Errors
    ///
    /// The file is not a list of targets, or may not be written, or others keep it for a second.
    pub async fn make(path: &Path, target: &ScrapeTarget<'_>) -> Result<Announcement, FileSdError> {
        // A link that is trusted stays one: what it leads to is replaced.
        let path = match files::open(path, Owner::Anybody, Links::Trusted) {
            Ok(_) => fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
            Err(_) => path.to_owned(),
        };
        let entry = entry(target);
        let host = target.identity.host.clone();
        change(&path, |list| {
            list.retain(|one| !is_left_over(one, &host));
            list.push(entry.clone());
        })
        .await?;
        Ok(Announcement { path, entry })
    }

    /// Removes the entry.
    ///
    /// # Errors
    ///
    /// As for [`Announcement::make`]; the entry is dropped then by the next one who announces a
    /// job.
    pub async fn withdraw(self) -> Result<(), FileSdError> {
        change(&self.path, |list| list.retain(|one| *one != self.entry)).await
    }
}

fn entry(target: &ScrapeTarget<'_>) -> Value {
    let identity = target.identity;
    let pid = std::process::id();
    let mut labels = Map::from_iter([
        ("job_name".to_owned(), json!(identity.name)),
        ("__meta_childminder_run_id".to_owned(), json!(identity.run_id)),
        (PID.to_owned(), json!(pid.to_string())),
        (START.to_owned(), json!(start_of(pid).unwrap_or_default())),
        (HOST.to_owned(), json!(identity.host)),
    ]);
    // What Prometheus would assume need not be said.
    if target.metrics_path != "/metrics" {
        labels.insert("__metrics_path__".to_owned(), json!(target.metrics_path));
    }
    if target.is_tls {
        labels.insert("__scheme__".to_owned(), json!("https"));
    }
    let mut targets: Vec<String> = Vec::new();
    for address in target.addresses {
        let one = reachable(*address, &identity.host);
        if !targets.contains(&one) {
            targets.push(one);
        }
    }
    json!({ "targets": targets, "labels": labels })
}

/// Nobody can connect to "any address": the host's name stands for it.
fn reachable(address: SocketAddr, host: &str) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => format!("{host}:{}", address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => format!("{host}:{}", address.port()),
        _ => address.to_string(),
    }
}

/// When a process began, in clock ticks since boot.
fn start_of(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/stat")).ok()?;
    Some(proc_stat::parse(&line)?.start_ticks.to_string())
}

/// Whether it is of a childminder of this host that lives no more.
fn is_left_over(entry: &Value, host: &str) -> bool {
    let label = |name: &str| entry.get("labels")?.get(name)?.as_str();
    let (Some(pid), Some(start)) = (label(PID), label(START)) else { return false };
    let Ok(number) = pid.parse::<u32>() else { return false };
    label(HOST) == Some(host)
        && match start_of(number) {
            Some(found) => found != start,
            None => !is_hidden(number),
        }
}

/// Processes of other users may not be seen in /proc (`hidepid`), but are refused a signal.
fn is_hidden(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    kill(nix::unistd::Pid::from_raw(pid), None) == Err(Errno::EPERM)
}

async fn change(path: &Path, edit: impl FnOnce(&mut Vec<Value>)) -> Result<(), FileSdError> {
    let failed = |source| FileSdError { path: path.to_owned(), source };
    let file = TargetsFile::open(path).map_err(failed)?;
    let _lock = file.lock().await.map_err(failed)?;
    let before = file.read().map_err(failed)?;
    let mut after = before.clone();
    edit(&mut after);
    if after == before { Ok(()) } else { file.write(&after).map_err(failed) }
}

/// The file of targets, which jobs of several users may share.
struct TargetsFile {
    directory: Directory,
    name: OsString,
}

impl TargetsFile {
    fn open(path: &Path) -> io::Result<TargetsFile> {
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = Directory::open(parent.unwrap_or(Path::new(".")), Links::Trusted)?;
        Ok(TargetsFile { directory, name })
    }

    /// The lock is a file of its own, because the other one is replaced.
    async fn lock(&self) -> io::Result<Flock<File>> {
        let mut name = self.name.clone();
        name.push(".lock");
        let mut file = self.lock_file(&name)?;
        for _ in 0..LOCK_TRIES {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((again, Errno::EWOULDBLOCK)) => file = again,
                Err((_, errno)) => return Err(errno.into()),
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "another process keeps it locked"))
    }

    /// Whoever may read it may lock it (flock(2)): it may be another user's.
    fn lock_file(&self, name: &OsStr) -> io::Result<File> {
        match self.directory.file(name, Owner::Anybody) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        match self.directory.create(name, 0o644) {
            // For the same people as the file, whatever the umask.
            Ok(made) => files::set_mode(&made, 0o644).map(|()| made),
            // Another process made it just then.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.directory.file(name, Owner::Anybody)
            }
            Err(error) => Err(error),
        }
    }

    fn read(&self) -> io::Result<Vec<Value>> {
        let text = "it is not a JSON list of targets, so it stays as it is";
        match self.directory.file(&self.name, Owner::Anybody).and_then(|file| whole(&file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
            // What a crash of the machine may leave of a file.
            Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Ok(Vec::new()),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, text)),
        }
    }

    /// Prometheus sees the file before or after, and never half of it.
    fn write(&self, list: &[Value]) -> io::Result<()> {
        let mode = self.directory.mode_for_others(&self.name);
        let mut file = self.directory.begin(0o600)?;
        file.write_all(printable_json(&serde_json::to_string_pretty(list)?).as_bytes())?;
        file.write_all(b"\n")?;
        file.file().set_permissions(Permissions::from_mode(mode))?;
        file.replace(&self.name)
    }
}

/// Reads a file that has one name only: with fs.protected_hardlinks=0 another user could have given
/// a second one, here, to a file that nobody else can reach, and we would publish it.
fn whole(file: &File) -> io::Result<Vec<u8>> {
    match file.metadata()?.nlink() {
        0 | 1 => files::read_whole(file, FILE_BYTES_MAX),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it has more than one name")),
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::prometheus::exposition::tests::identity;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    async fn announce(path: &Path, port: u16) -> Result<Announcement, FileSdError> {
        let addresses = [SocketAddr::from(([127, 0, 0, 1], port))];
        let identity = identity();
        let (addresses, metrics_path) = (&addresses[..], "/metrics");
        let target = ScrapeTarget { addresses, metrics_path, is_tls: false, identity: &identity };
        Announcement::make(path, &target).await
    }

    fn listed(path: &Path) -> Vec<Value> {
        TargetsFile::open(path).unwrap().read().unwrap()
    }

    fn targets(path: &Path) -> Vec<String> {
        let target = |one: Value| one["targets"][0].as_str().unwrap().to_owned();
        listed(path).into_iter().map(target).collect()
    }

    #[test]
    fn jobs_come_and_go_and_the_dead_are_dropped() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("jobs.json");
        // Ours is pid 1's number with another start; the second host's cannot be looked at.
        let dead = |host: &str, target: &str| {
            let labels = json!({ PID: "1", START: "x", HOST: host });
            json!({ "targets": [target], "labels": labels })
        };
        let foreign = json!({ "targets": ["by-hand:1"], "labels": {} });
        let before = [foreign, dead("h", "dead:1"), dead("other", "far:1")];
        fs::write(&path, serde_json::to_string(&before).unwrap()).unwrap();
        block_on(async {
            let one = announce(&path, 1).await.unwrap();
            let two = announce(&path, 2).await.unwrap();
            assert_eq!(targets(&path), ["by-hand:1", "far:1", "127.0.0.1:1", "127.0.0.1:2"]);
            one.withdraw().await.unwrap();
            assert_eq!(targets(&path), ["by-hand:1", "far:1", "127.0.0.1:2"]);
            two.withdraw().await.unwrap();
        });
        assert_eq!(targets(&path), ["by-hand:1", "far:1"]);
    }

    #[test]
    fn prometheus_can_read_a_new_file() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("jobs.json");
        let _kept = block_on(announce(&path, 9)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        let list = listed(&path);
        assert_eq!(list[0]["labels"]["job_name"], "a \"b\"\\c\nd");
        assert_eq!(list[0]["labels"][PID], std::process::id().to_string());
        assert!(list[0]["labels"].as_object().unwrap().values().all(Value::is_string));
    }

    #[test]
    fn what_is_not_a_list_stays_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        for text in ["{}", "not json", "[1,", "\"x\""] {
            let path = place.path().join("other");
            fs::write(&path, text).unwrap();
            let error = block_on(announce(&path, 1)).unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::InvalidData, "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let nowhere = block_on(announce(Path::new("/nowhere/jobs.json"), 1)).unwrap_err();
        assert_eq!(nowhere.to_string(), "announce the job in /nowhere/jobs.json");
    }

    #[test]
    fn a_second_name_of_another_file_is_not_published() {
        let place = tempfile::tempdir().unwrap();
        let (private, path) = (place.path().join("private"), place.path().join("jobs.json"));
        fs::write(&private, "[1]").unwrap();
        fs::hard_link(&private, &path).unwrap();
        let error = block_on(announce(&path, 1)).unwrap_err();
        assert_eq!(error.source.to_string(), "it has more than one name");
        assert_eq!(fs::read_to_string(&path).unwrap(), "[1]");
    }

    #[test]
    fn a_lock_that_others_hold_is_not_waited_for_without_end() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("jobs.json");
        block_on(async {
            let file = TargetsFile::open(&path).unwrap();
            let held = file.lock().await.unwrap();
            let error = announce(&path, 1).await.unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::TimedOut);
            drop(held);
            announce(&path, 1).await.unwrap().withdraw().await.unwrap();
        });
    }

    #[test]
    fn many_at_once_lose_nothing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("jobs.json");
        let threads: Vec<_> = (1..=8)
            .map(|port| {
                let path = path.clone();
                std::thread::spawn(move || block_on(announce(&path, port)).unwrap())
            })
            .collect();
        let made: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(targets(&path).len(), 8);
        for one in made {
            block_on(one.withdraw()).unwrap();
        }
        assert!(targets(&path).is_empty());
    }

    #[test]
    fn what_can_be_reached_is_announced() {
        let identity = identity();
        let addresses: Vec<SocketAddr> = ["0.0.0.0:1", "[::]:1", "[::1]:2", "10.0.0.1:3"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let (addresses, metrics_path) = (&addresses[..], "/m");
        let target = ScrapeTarget { addresses, metrics_path, is_tls: true, identity: &identity };
        let entry = entry(&target);
        assert_eq!(entry["targets"], json!(["h:1", "[::1]:2", "10.0.0.1:3"]));
        assert_eq!(entry["labels"]["__scheme__"], "https");
        assert_eq!(entry["labels"]["__metrics_path__"], "/m");
    }
}

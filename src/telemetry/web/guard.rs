//! Who is let in: the protection that `--web.config.file` asks for, as the file is now.
//!
//! A file that changed is read again. If it is bad then, nobody is let in until it is mended: the
//! last good one may be what the change was to end. What is protected at the start stays so: a file
//! that is empty for a moment, because somebody writes it, opens nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};
use tokio::time::Instant;

use crate::model::shared::lock;
use crate::telemetry::web::config::{Protection, Read};
use crate::telemetry::web::config_file::ConfigError;
use crate::telemetry::web::passwords::Passwords;
use crate::telemetry::web::routes::{HttpAnswer, plain};

/// What is said when something is wrong while we serve.
pub(super) type Complain = Box<dyn Fn(&str) + Send + Sync>;

/// See the module's documentation.
pub(super) struct Guard {
    config: Option<PathBuf>,
    state: Mutex<GuardState>,
    bucket: Mutex<Bucket>,
    passwords: Passwords,
    pub(super) complain: Complain,
}

struct GuardState {
    /// Each file that it depends on, and what it was like before it was read.
    files: Vec<(PathBuf, Option<FileStamp>)>,
    /// Nothing if the file is bad.
    protection: Option<Arc<Protection>>,
    /// What must not be lost: TLS, demand for certificates, passwords.
    floor: [bool; 3],
}

/// What changes when a file does (stat(2)): device, inode, size, and both times.
#[derive(PartialEq)]
struct FileStamp([u64; 3], [(i64, i64); 2]);

/// The token bucket of `rate_limit`.
#[derive(Default)]
struct Bucket {
    tokens: f64,
    filled: Option<Instant>,
}

fn look(path: &Path) -> Option<FileStamp> {
    let meta = fs::metadata(path).ok()?;
    let times = [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())];
    Some(FileStamp([meta.dev(), meta.ino(), meta.size()], times))
}

fn looked_at(path: PathBuf) -> (PathBuf, Option<FileStamp>) {
    let look = look(&path);
    (path, look)
}

impl Guard {
    /// Lets everybody in.
    pub(super) fn unprotected() -> Guard {
        let protection = Some(Arc::new(Protection::default()));
        Guard::with(None, GuardState { files: Vec::new(), protection, floor: [false; 3] })
    }

    pub(super) fn new(config: PathBuf) -> Result<Guard, ConfigError> {
        let (files, protection) = load(&config);
        let protection = protection?;
        let floor = strength(&protection);
        let protection = Some(Arc::new(protection));
        Ok(Guard::with(Some(config), GuardState { files, protection, floor }))
    }

    fn with(config: Option<PathBuf>, state: GuardState) -> Guard {
        Guard {
            config,
            state: Mutex::new(state),
            bucket: Mutex::default(),
            passwords: Passwords::default(),
            complain: Box::new(|_| {}),
        }
    }

    /// Whether TLS was asked for at the start.
    pub(super) fn is_tls(&self) -> bool {
        lock(&self.state).floor[0]
    }

    /// Returns the protection as the files are now; nothing if they are bad.
    pub(super) fn protection(&self) -> Option<Arc<Protection>> {
        let mut state = lock(&self.state);
        if state.files.iter().any(|(path, before)| look(path) != *before)
            && let Some(config) = &self.config
        {
            let (files, protection) = load(config);
            state.files = files;
            let protection = protection.and_then(|new| not_below(state.floor, new));
            state.protection = match protection {
                Ok(protection) => Some(Arc::new(protection)),
                Err(error) => {
                    let path = config.display();
                    (self.complain)(&format!("nobody is let in until {path} is mended: {error}"));
                    None
                }
            };
        }
        state.protection.clone()
    }

    /// Returns the protection that the request passed, or how it is turned away.
    pub(super) async fn admit(
        &self,
        headers: &HeaderMap,
        is_tls: bool,
    ) -> Result<Arc<Protection>, HttpAnswer> {
        let Some(protection) = self.protection() else {
            return Err(plain(StatusCode::INTERNAL_SERVER_ERROR, "500: the web configuration\n"));
        };
        // The connection is older than the file.
        if protection.tls.is_some() && !is_tls {
            return Err(plain(StatusCode::UPGRADE_REQUIRED, "426: speak TLS\n"));
        }
        if let Some((interval, burst)) = protection.rate
            && !lock(&self.bucket).take(interval, burst)
        {
            return Err(plain(StatusCode::TOO_MANY_REQUESTS, "429: too many requests\n"));
        }
        let users = &protection.users;
        if users.is_empty() || self.passwords.are_right(headers, users).await {
            return Ok(protection);
        }
        let mut answer = plain(StatusCode::UNAUTHORIZED, "401: name and password, please\n");
        let basic = HeaderValue::from_static("Basic realm=\"childminder\", charset=\"UTF-8\"");
        answer.headers_mut().insert(WWW_AUTHENTICATE, basic);
        for (name, value) in &protection.headers {
            answer.headers_mut().insert(name, value.clone());
        }
        Err(answer)
    }
}

type WatchedFiles = Vec<(PathBuf, Option<FileStamp>)>;

/// Each file is looked at before it is read: what changes meanwhile is seen the next time.
fn load(config: &Path) -> (WatchedFiles, Result<Protection, ConfigError>) {
    let mut files = vec![looked_at(config.to_owned())];
    let protection = Read::new(config).and_then(|read| {
        files.extend(read.others.iter().cloned().map(looked_at));
        read.check()
    });
    (files, protection)
}

fn strength(protection: &Protection) -> [bool; 3] {
    [protection.tls.is_some(), protection.demands_certificate, !protection.users.is_empty()]
}

fn not_below(floor: [bool; 3], new: Protection) -> Result<Protection, ConfigError> {
    let names = ["tls_server_config", "the demand for client certificates", "basic_auth_users"];
    let now = strength(&new);
    match (0..3).find(|index| floor[*index] && !now[*index]) {
        Some(lost) => Err(ConfigError::new(format!("{} is gone from it", names[lost]))),
        None => Ok(new),
    }
}

impl Bucket {
    fn take(&mut self, interval: Duration, burst: u32) -> bool {
        let now = Instant::now();
        let burst = f64::from(burst);
        let since = self.filled.replace(now).map(|filled| now - filled);
        let gained = since.map_or(burst, |since| since.as_secs_f64() / interval.as_secs_f64());
        self.tokens = (self.tokens + gained).min(burst);
        let is_enough = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(is_enough));
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::telemetry::web::config::tests::hash;

    use super::*;

    #[test]
    fn a_changed_file_is_read_again_and_a_bad_one_lets_nobody_in() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("web.yml");
        let users = |name: &str| format!("basic_auth_users:\n  {name}: {}\n", hash());
        fs::write(&path, users("alice")).unwrap();
        let mut guard = Guard::new(path.clone()).unwrap();
        let said = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&said);
        guard.complain = Box::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let names = || {
            let protection = guard.protection()?;
            Some(protection.users.keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(names(), Some(vec!["alice".to_owned()]));
        fs::write(&path, users("caroline")).unwrap();
        assert_eq!(names(), Some(vec!["caroline".to_owned()]));
        for bad in ["nonsense: 1\n", "", "basic_auth_users: {}\n"] {
            let before = said.load(Ordering::Relaxed);
            fs::write(&path, bad).unwrap();
            assert_eq!((names(), names()), (None, None), "{bad}");
            assert_eq!(said.load(Ordering::Relaxed), before + 1, "it is said once");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(names(), None);
        fs::write(&path, users("bob")).unwrap();
        assert_eq!(names(), Some(vec!["bob".to_owned()]));
    }

    #[test]
    fn a_bucket_holds_a_burst() {
        let mut bucket = Bucket::default();
        let hour = Duration::from_secs(3_600);
        assert!(bucket.take(hour, 2) && bucket.take(hour, 2) && !bucket.take(hour, 2));
        assert!(bucket.take(Duration::from_nanos(1), 2), "time fills it");
        assert!(!Bucket::default().take(hour, 0));
    }
}

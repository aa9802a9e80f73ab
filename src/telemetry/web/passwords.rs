//! Names and passwords (RFC 7617), which are kept as bcrypt hashes.
//!
//! bcrypt is slow on purpose, and the cores are the job's: one is worked out at a time, on a thread
//! of its own, a wrong one makes the next wait, and what was found out is remembered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

use crate::model::shared::lock;
use crate::sys::clock;

/// At most this number of right answers, and as many wrong ones, is remembered.
const REMEMBERED_MAX: usize = 64;

/// After a wrong password the next waits this number of times as long as it took to find out: guessing
/// takes a fifth of a core at most.
const REST_FACTOR: u32 = 4;

const REST_MAX: Duration = Duration::from_secs(1);

/// The salt and digest for a user that we do not know: no password is known to lead to it.
const NOBODY: &str = "$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";

/// See the module's documentation.
pub(super) struct Passwords {
    /// Makes what is remembered useless to others: passwords themselves are not kept.
    secret: Uuid,
    found: Arc<CheckedPasswords>,
    turn: Arc<Semaphore>,
}

/// What was found out, apart, so that guesses do not push out what is right.
#[derive(Default)]
struct CheckedPasswords {
    right: Mutex<VecDeque<Uuid>>,
    wrong: Mutex<VecDeque<Uuid>>,
}

impl Default for Passwords {
    fn default() -> Passwords {
        Passwords {
            secret: Uuid::from_bytes(clock::random()),
            found: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Passwords {
    /// Whether the headers have the name and the password of one of the users.
    pub(super) async fn are_right(
        &self,
        headers: &HeaderMap,
        users: &BTreeMap<String, String>,
    ) -> bool {
        let Some((name, password)) = credentials(headers) else { return false };
        let (hash, is_known) = match users.get(&name) {
            Some(hash) => (hash.clone(), true),
            // As much work as for a user, so that the time does not show who is one.
            None => (format!("{}{NOBODY}", dearest(users)), false),
        };
        let key = self.key(&name, &password, &hash);
        if let Some(is_right) = self.found.recall(&key) {
            return is_right && is_known;
        }
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else { return false };
        // Whoever came before may have asked the same.
        if let Some(is_right) = self.found.recall(&key) {
            return is_right && is_known;
        }
        let found = Arc::clone(&self.found);
        let work = move || bcrypt::verify(password, &hash).unwrap_or(false);
        // A task of its own: the turn lasts until the work is done, also if the client has gone and
        // nobody waits for the answer.
        let task = tokio::spawn(async move {
            let begun = Instant::now();
            let is_right = tokio::task::spawn_blocking(work).await.unwrap_or(false) && is_known;
            remember(if is_right { &found.right } else { &found.wrong }, key);
            if !is_right {
                let rest = (begun.elapsed() * REST_FACTOR).min(REST_MAX);
                tokio::spawn(async move {
                    tokio::time::sleep(rest).await;
                    drop(turn);
                });
            }
            is_right
        });
        task.await.unwrap_or(false)
    }

    /// SHA-1 over a secret and all three: nobody can make two that are equal.
    fn key(&self, name: &str, password: &str, hash: &str) -> Uuid {
        let mut text = Vec::new();
        for part in [name, password, hash] {
            text.extend_from_slice(&part.len().to_le_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        Uuid::new_v5(&self.secret, &text)
    }
}

impl CheckedPasswords {
    fn recall(&self, key: &Uuid) -> Option<bool> {
        has(&self.right, key).then_some(true).or_else(|| has(&self.wrong, key).then_some(false))
    }
}

fn has(list: &Mutex<VecDeque<Uuid>>, key: &Uuid) -> bool {
    lock(list).contains(key)
}

fn remember(list: &Mutex<VecDeque<Uuid>>, key: Uuid) {
    let mut list = lock(list);
    if list.len() >= REMEMBERED_MAX {
        list.pop_front();
    }
    list.push_back(key);
}

/// The version and cost of the hash that takes longest: `$2y$10`.
fn dearest(users: &BTreeMap<String, String>) -> &str {
    let starts = users.values().filter_map(|hash| hash.get(..6));
    starts.max_by_key(|start| start.get(4..).unwrap_or_default()).unwrap_or("$2y$10")
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
pub(super) mod tests {
    use crate::telemetry::web::config::tests::hash;

    use super::*;

    pub(in crate::telemetry::web) fn basic(name: &str, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
    }

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn name_and_password_must_be_right_together() {
        let users = BTreeMap::from([("alice".to_owned(), hash()), ("bob".to_owned(), hash())]);
        let passwords = Passwords::default();
        let ask = async |value: &str| passwords.are_right(&headers(value), &users).await;
        runtime().block_on(async {
            assert!(ask(&basic("alice", "secret")).await);
            assert!(ask(&basic("alice", "secret")).await, "remembered");
            assert!(!ask(&basic("alice", "Secret")).await);
            assert!(!ask(&basic("alice", "Secret")).await, "remembered");
            assert!(!ask(&basic("eve", "secret")).await);
            assert!(!ask(&basic("", "")).await);
            for bad in ["", "Basic", "Basic !", "Bearer x", "Basic YQ==", "Basic /w=="] {
                assert!(!ask(bad).await, "{bad}");
            }
            assert!(!passwords.are_right(&HeaderMap::new(), &users).await);
        });
        assert_eq!(passwords.found.right.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_changed_password_is_not_the_remembered_one() {
        let passwords = Passwords::default();
        let before = BTreeMap::from([("alice".to_owned(), hash())]);
        let after = BTreeMap::from([("alice".to_owned(), bcrypt::hash("other", 4).unwrap())]);
        let secret = headers(&basic("alice", "secret"));
        runtime().block_on(async {
            assert!(passwords.are_right(&secret, &before).await);
            assert!(!passwords.are_right(&secret, &after).await);
        });
    }

    #[test]
    fn a_stranger_costs_as_much_as_the_dearest_user() {
        let users = ["$2y$10$a", "$2b$12$b", "$2a$04$c"];
        let users = users.iter().map(|hash| ((*hash).to_owned(), (*hash).to_owned())).collect();
        assert_eq!(dearest(&users), "$2b$12");
        let hash = format!("{}{NOBODY}", dearest(&BTreeMap::new()));
        assert!(!bcrypt::verify("x", &hash).unwrap(), "a hash that can be worked out");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let list = Mutex::default();
        for number in 0..1_000_u128 {
            remember(&list, Uuid::from_u128(number));
        }
        assert_eq!(list.lock().unwrap().len(), REMEMBERED_MAX);
        assert!(has(&list, &Uuid::from_u128(999)) && !has(&list, &Uuid::from_u128(0)));
    }
}

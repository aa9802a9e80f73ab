//! The file of `--web.config.file`, in the format of the Prometheus exporter toolkit, as what should
//! be: checked, with its certificates read.
//!
//! What the format knows and we cannot do is an error that names it, as an unknown key is: who
//! asked for protection and does not get it must be informed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bcrypt::HashParts;
use hyper::header::{HeaderName, HeaderValue};
use rustls::ServerConfig;
use serde::Deserialize;

use crate::telemetry::web::config_file::{ConfigError, read};
use crate::telemetry::web::tls;

/// The headers that may be set, and to what, if not to anything.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// What keeps others out, and how.
#[derive(Default)]
pub(super) struct Protection {
    /// TLS; without it, plain HTTP is spoken.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// Whether a client must show a certificate.
    pub(super) demands_certificate: bool,
    /// Users and the bcrypt hashes of their passwords; empty if anyone may read.
    pub(super) users: BTreeMap<String, String>,
    /// Headers for every answer.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// A request each span, and how many at once.
    pub(super) rate: Option<(Duration, u32)>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WebConfigFile {
    tls_server_config: Option<tls::TlsConfigFile>,
    http_server_config: Option<TypedHttp>,
    basic_auth_users: Option<BTreeMap<String, String>>,
    rate_limit: Option<TypedRate>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TypedHttp {
    /// Accepted and ignored: whoever may speak HTTP/2 may speak HTTP/1.1.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    headers: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TypedRate {
    interval: Option<String>,
    burst: u32,
}

/// A file that was read: what it says, and what else it depends on.
pub(super) struct Read {
    /// Certificates and keys that it names.
    pub(super) others: Vec<PathBuf>,
    typed: WebConfigFile,
}

impl Read {
    /// Reads the file, and none that it names.
    pub(super) fn new(path: &Path) -> Result<Read, ConfigError> {
        Read::of(&read(path)?, path.parent().unwrap_or(Path::new("")))
    }

    /// Reads the text of a file of that directory.
    pub(super) fn of(text: &str, directory: &Path) -> Result<Read, ConfigError> {
        // A file of nothing but comments is one that protects nothing, as in the toolkit.
        let typed: Option<WebConfigFile> = serde_saphyr::from_str_with_options(text, options())
            .map_err(|error| ConfigError::new(error.to_string()))?;
        let mut typed = typed.unwrap_or_default();
        let others = typed.tls_server_config.as_mut().map(|tls| tls.resolve(directory));
        Ok(Read { others: others.unwrap_or_default(), typed })
    }

    /// Checks it and reads the files that it names.
    pub(super) fn check(self) -> Result<Protection, ConfigError> {
        let tls = match self.typed.tls_server_config {
            // Named without anything in it, it asks for nothing.
            Some(typed) if typed != tls::TlsConfigFile::default() => Some(typed),
            _ => None,
        };
        let users = self.typed.basic_auth_users.unwrap_or_default();
        for (user, hash) in &users {
            let wrong =
                |_| ConfigError::new(format!("the password of '{user}' is not a bcrypt hash"));
            hash.parse::<HashParts>().map_err(wrong)?;
        }
        let headers = self.typed.http_server_config.and_then(|http| http.headers);
        let rate = self.typed.rate_limit.map(rate).transpose()?.flatten();
        Ok(Protection {
            demands_certificate: tls.as_ref().is_some_and(tls::TlsConfigFile::demands_certificate),
            tls: tls.map(|typed| tls::server_config(&typed)).transpose()?,
            users,
            headers: headers.unwrap_or_default().iter().map(header).collect::<Result<_, _>>()?,
            rate,
        })
    }
}

/// An error that showed lines of the file would show secrets.
fn options() -> serde_saphyr::Options {
    serde_saphyr::Options { with_snippet: false, ..serde_saphyr::Options::default() }
}

fn header((name, value): (&String, &String)) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let Some((_, allowed)) = HEADERS.iter().find(|(one, _)| one == name) else {
        return Err(ConfigError::new(format!("the HTTP header '{name}' cannot be set")));
    };
    if !allowed.is_empty() && !allowed.contains(&value.as_str()) {
        let wanted = allowed.join("' or '");
        return Err(ConfigError::new(format!("{name} may be '{wanted}' only, and not '{value}'")));
    }
    let wrong = || ConfigError::new(format!("'{value}' is not a value for the HTTP header {name}"));
    let value = HeaderValue::from_str(value).map_err(|_| wrong())?;
    Ok((name.parse().map_err(|_| wrong())?, value))
}

fn rate(typed: TypedRate) -> Result<Option<(Duration, u32)>, ConfigError> {
    let Some(text) = typed.interval else { return Ok(None) };
    let wrong =
        || ConfigError::new(format!("rate_limit: interval '{text}' is not a duration such as 1s"));
    let interval = go_duration(&text).ok_or_else(wrong)?;
    Ok((!interval.is_zero()).then_some((interval, typed.burst)))
}

/// A span as Go writes it: `1m30s`, `0.5s`, or a bare number of nanoseconds.
fn go_duration(text: &str) -> Option<Duration> {
    if let Ok(nanoseconds) = text.parse() {
        return Some(Duration::from_nanos(nanoseconds));
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    /// Writes the file and says what is made of it.
    fn checked(text: &str) -> Result<Protection, ConfigError> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("web.yml");
        fs::write(&path, text).unwrap();
        Read::new(&path).and_then(Read::check)
    }

    fn refused(text: &str) -> String {
        checked(text).map(drop).expect_err(text).to_string()
    }

    /// Of "secret", as cheap as bcrypt can be.
    pub(in crate::telemetry::web) fn hash() -> String {
        bcrypt::hash("secret", 4).unwrap()
    }

    #[test]
    fn all_that_the_format_knows_is_taken() {
        let hash = hash();
        let protection = checked(&format!(
            "# ours\nhttp_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n    \
             Strict-Transport-Security: max-age=1\nbasic_auth_users:\n  alice: {hash}\n  bob: \
             \"{hash}\"\nrate_limit:\n  interval: 1m0.5s\n  burst: 3\n"
        ))
        .unwrap();
        assert_eq!(protection.users.len(), 2);
        assert_eq!(protection.headers.len(), 2);
        assert_eq!(protection.rate, Some((Duration::from_millis(60_500), 3)));
        assert!(protection.tls.is_none());
    }

    #[test]
    fn what_asks_for_nothing_protects_nothing() {
        let empty = "tls_server_config:\nbasic_auth_users:\nhttp_server_config:\nrate_limit:\n";
        let off = "tls_server_config: {}\nrate_limit:\n  interval: 0\n  burst: 1\n";
        for text in ["", "# nothing\n", "---\n", "{}", empty, off] {
            let protection = checked(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(protection.tls.is_none() && protection.users.is_empty());
            assert!(protection.rate.is_none());
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (text, word) in [
            ("tls_config:\n  a: b\n", "tls_config"),
            ("tls_server_config:\n  cert_fil: x\n", "cert_fil"),
            ("basic_auth_user:\n", "basic_auth_user"),
            ("http_server_config:\n  headers:\n    X-Evil: 1\n", "X-Evil"),
            ("http_server_config:\n  headers:\n    X-Frame-Options: perhaps\n", "X-Frame-Options"),
            ("http_server_config:\n  headers:\n    X-XSS-Protection: \"a\\nb\"\n", "X-XSS"),
            ("basic_auth_users:\n  eve: secret\n", "eve"),
            ("rate_limit:\n  interval: often\n", "often"),
            ("rate_limit:\n  interval: 1s\n  burst: -1\n", "line 3"),
            ("basic_auth_users: [\n", "line"),
            ("basic_auth_users: 7\n", "line"),
            ("rate_limit:\nrate_limit:\n", "duplicate"),
        ] {
            let said = refused(text);
            assert!(said.contains(word), "{text}: {said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn the_toolkits_examples_of_spans_are_read() {
        let ms = |text| go_duration(text).map(|span| span.as_secs_f64() * 1000.0);
        assert_eq!(ms("1s"), Some(1000.0));
        assert_eq!(ms("1h1m1s"), Some(3_661_000.0));
        assert_eq!(ms("100ms"), Some(100.0));
        assert_eq!(ms("1000000"), Some(1.0));
        for text in ["", "s", "1", "1x", "-1s", "1.2.3s", "1e400s"] {
            assert!(text == "1" || go_duration(text).is_none(), "{text}");
        }
    }
}

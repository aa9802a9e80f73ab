//! Pushes the numbers of a run to a Pushgateway when it has ended.
//!
//! By POST: it replaces metrics of the same name in our own group and nothing else, so a failure
//! does not take away when the job last succeeded.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use opentelemetry_http::HttpClient;

use crate::model::percent::decoded;
use crate::plan::Credentials;
use crate::telemetry::http_client::{self, Client, LastError};
use crate::telemetry::identity::TelemetryIdentity;
use crate::telemetry::prometheus::exposition;
use crate::telemetry::published::Published;

/// Why nothing was pushed.
#[derive(Debug, PartialEq, Eq)]
pub struct PushError {
    /// Scheme, host and port; without them the URL is wrong.
    address: Option<String>,
    reason: PushReason,
}

#[derive(Debug, PartialEq, Eq)]
enum PushReason {
    /// The URL is not one.
    Address,
    /// No client or no request can be made.
    Prepare(String),
    /// There was no answer, and why.
    Unreachable(String),
    /// There was no answer in time.
    Late,
    /// Its status, and the first line of its text.
    Refused(StatusCode, String),
}

impl PushError {
    /// No answer came in time.
    pub fn late(url: &str, published: &Published) -> PushError {
        let address = target(url, &published.identity).map(|(uri, _)| address(&uri)).ok();
        PushError { address, reason: PushReason::Late }
    }
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = &self.address {
            write!(f, "{address}: ")?;
        }
        match &self.reason {
            PushReason::Address => f.write_str(
                "an address that is not valid: say http://HOST:PORT, with or without a path",
            ),
            PushReason::Prepare(why) | PushReason::Unreachable(why) => f.write_str(why),
            PushReason::Late => f.write_str("no answer within the time limit"),
            PushReason::Refused(status, line) => write!(f, "it answered {status}: {line}"),
        }
    }
}

/// Pushes all metrics of the job.
///
/// # Errors
///
/// The URL is wrong, or there was no answer, or not a good one.
pub async fn push(url: &str, published: &Published) -> Result<(), PushError> {
    let (uri, authorization) =
        target(url, &published.identity).map_err(|reason| PushError { address: None, reason })?;
    let pushed = push_to(&uri, authorization, published).await;
    pushed.map_err(|reason| PushError { address: Some(address(&uri)), reason })
}

/// Returns scheme, host and port; [`target`] took the user out.
fn address(uri: &Uri) -> String {
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    format!("{}://{authority}", uri.scheme_str().unwrap_or_default())
}

async fn push_to(
    uri: &Uri,
    authorization: Option<String>,
    published: &Published,
) -> Result<(), PushReason> {
    let collected = published.collect().of_the_job();
    let body = exposition::text(&exposition::families(&collected, &published.identity));
    let mut request = Request::post(uri).header("content-type", exposition::TEXT);
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let request =
        request.body(Bytes::from(body)).map_err(|error| PushReason::Prepare(error.to_string()))?;
    let (credentials, wants_tls) = (Credentials::default(), uri.scheme_str() == Some("https"));
    let client = Client::new(&credentials, wants_tls, &LastError::default())
        .map_err(|error| PushReason::Prepare(error.to_string()))?;
    let answer = client.send_bytes(request).await;
    let answer = answer.map_err(|error| PushReason::Unreachable(http_client::cause(&*error)))?;
    if answer.status().is_success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(answer.body());
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(PushReason::Refused(answer.status(), line.chars().take(200).collect()))
}

/// Makes the address of our group, and the header for a user in the URL.
fn target(url: &str, identity: &TelemetryIdentity) -> Result<(Uri, Option<String>), PushReason> {
    let (scheme, rest) = url.split_once("://").ok_or(PushReason::Address)?;
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{}", path.trim_end_matches('/'))),
        None => (rest, String::new()),
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let path = path.trim_end_matches('/');
    let group = if path.contains("/metrics/job") {
        String::new()
    } else {
        let (name, instance) = (&identity.name, &identity.host);
        format!(
            "/metrics/job/childminder/{}/{}",
            part("job_name", name),
            part("instance", instance)
        )
    };
    let uri: Uri =
        format!("{scheme}://{host}{path}{group}").parse().map_err(|_| PushReason::Address)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        return Err(PushReason::Address);
    }
    Ok((uri, user.map(authorization)))
}

/// Makes the header of `USER:PASSWORD`, in which odd bytes are written as `%XX`.
fn authorization(user: &str) -> String {
    let plain = |part: &str| decoded(part).unwrap_or_else(|| part.to_owned());
    let pair = match user.split_once(':') {
        Some((user, password)) => format!("{}:{}", plain(user), plain(password)),
        None => format!("{}:", plain(user)),
    };
    format!("Basic {}", STANDARD.encode(pair))
}

/// A label of the group: what cannot stand in a path is written in base64.
fn part(label: &str, value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    if !value.is_empty() && value.bytes().all(is_plain) {
        return format!("{label}/{value}");
    }
    let encoded = URL_SAFE.encode(value);
    // An empty value is a lone padding sign (README of the Pushgateway).
    format!("{label}@base64/{}", if encoded.is_empty() { "=" } else { &encoded })
}

#[cfg(test)]
mod tests {
    use crate::telemetry::prometheus::exposition::tests::identity;

    use super::*;

    #[test]
    fn the_group_is_the_jobs_own() {
        let mut identity = identity();
        identity.name = "nightly".into();
        let uri = |url: &str| target(url, &identity).map(|(uri, _)| uri.to_string());
        let ours = "/metrics/job/childminder/job_name/nightly/instance/h";
        assert_eq!(uri("http://h:9091"), Ok(format!("http://h:9091{ours}")));
        assert_eq!(uri("https://h/push/"), Ok(format!("https://h/push{ours}")));
        let given = "http://h:1/metrics/job/x/y/z";
        assert_eq!(uri(given), Ok(given.to_owned()));
        for bad in ["h:9091", "ftp://h", "http://", "http:// /"] {
            assert!(target(bad, &identity).is_err(), "{bad}");
        }
    }

    #[test]
    fn odd_names_and_passwords_are_encoded() {
        assert_eq!(part("job_name", "a/b"), "job_name@base64/YS9i");
        assert_eq!(part("job_name", ""), "job_name@base64/=");
        let (uri, header) = target("http://u:p@h:1", &identity()).unwrap();
        assert_eq!(header.as_deref(), Some("Basic dTpw"));
        assert_eq!(authorization("u%40x:p%3a%2f"), format!("Basic {}", STANDARD.encode("u@x:p:/")));
        assert_eq!(authorization("u"), format!("Basic {}", STANDARD.encode("u:")));
        assert!(!uri.to_string().contains('@') || uri.to_string().contains("@base64"));
    }
}

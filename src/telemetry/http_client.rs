//! The HTTP client of telemetry: for OTLP over HTTP, and for the Pushgateway.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::files::{self, Links, Owner};
use crate::model::shared::lock;
use crate::plan::Credentials;

/// No answer of a collector is longer.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The authorities of a whole system take 250 KiB.
const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why the last request had no answer.
pub type LastError = Arc<Mutex<Option<String>>>;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    last_error: LastError,
}

impl Client {
    /// Makes one, which keeps in `last_error` why a request had no answer: the exporters of OTLP call all of
    /// that a network error. The system's authorities are read only if TLS is wanted: they cost a megabyte.
    ///
    /// # Errors
    ///
    /// A file of the credentials cannot be read or is none; the text names it.
    pub fn new(
        credentials: &Credentials,
        wants_tls: bool,
        last_error: &LastError,
    ) -> Result<Client, String> {
        let config = tls(credentials, wants_tls)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .build();
        let pool = Pool::builder(TokioExecutor::new()).build(connector);
        Ok(Client { pool, last_error: Arc::clone(last_error) })
    }
}

fn tls(credentials: &Credentials, wants_tls: bool) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &credentials.certificate {
        for certificate in certificates(path)? {
            let added = roots.add(certificate);
            added.map_err(|error| format!("certificate '{}': {error}", path.display()))?;
        }
    } else if wants_tls {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    match (&credentials.client_certificate, &credentials.client_key) {
        (Some(certificate), Some(key)) => {
            let failed =
                |error: &dyn std::fmt::Display| format!("client key '{}': {error}", key.display());
            let text = pem(key).map_err(|error| failed(&error))?;
            let parsed = PrivateKeyDer::from_pem_slice(&text).map_err(|error| failed(&error))?;
            let config = builder.with_client_auth_cert(certificates(certificate)?, parsed);
            config.map_err(|error| failed(&error))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("certificate '{}': {error}", path.display());
    let text = pem(path).map_err(|error| failed(&error))?;
    let found = CertificateDer::pem_slice_iter(&text);
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| failed(&error))?;
    if found.is_empty() { Err(failed(&"there is none in the file")) } else { Ok(found) }
}

/// Reads a file of certificates or a key. It may belong to anybody: the user named it.
///
/// # Errors
///
/// As for [`files::read`].
pub fn pem(path: &Path) -> io::Result<Vec<u8>> {
    files::read(path, Owner::Anybody, Links::Trusted, PEM_BYTES_MAX)
}

/// Says why a server could not be reached: the causes below the error itself, each once.
#[must_use]
pub fn cause(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(below) = next {
        let text = below.to_string();
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        next = below.source();
    }
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let answer = self.pool.request(Request::from_parts(head, Full::new(body))).await;
        let answer = answer.inspect_err(|error| *lock(&self.last_error) = Some(cause(error)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}

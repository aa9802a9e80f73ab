//! The HTTP client of telemetry: for OTLP over HTTP, and for the Pushgateway.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use rustls::pki_types::pem::{self, PemObject};
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
    /// A file of the credentials cannot be read or is not what it should be; the error names it.
    pub fn new(
        credentials: &Credentials,
        wants_tls: bool,
        last_error: &LastError,
    ) -> Result<Client, ClientError> {
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

/// Why there can be no client. Each names the file that is wrong.
#[derive(Debug)]
pub enum ClientError {
    /// A file of certificates.
    Certificate(PathBuf, CredentialError),
    /// The key of the client, or the certificate that belongs to it.
    ClientKey(PathBuf, CredentialError),
    /// The versions of TLS and the provider do not go together.
    Tls(rustls::Error),
}

/// What is wrong with a file of the credentials.
#[derive(Debug)]
pub enum CredentialError {
    /// It cannot be read.
    Read(io::Error),
    /// It is not in the format PEM.
    Pem(pem::Error),
    /// It has no certificate.
    Empty,
    /// TLS does not take what is in it.
    Tls(rustls::Error),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Certificate(path, why) => {
                write!(f, "certificate '{}': {why}", path.display())
            }
            ClientError::ClientKey(path, why) => {
                write!(f, "client key '{}': {why}", path.display())
            }
            ClientError::Tls(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialError::Read(error) => error.fmt(f),
            CredentialError::Pem(error) => error.fmt(f),
            CredentialError::Empty => f.write_str("there is none in the file"),
            CredentialError::Tls(error) => error.fmt(f),
        }
    }
}

fn tls(credentials: &Credentials, wants_tls: bool) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &credentials.certificate {
        for certificate in certificates(path)? {
            let added = roots.add(certificate).map_err(CredentialError::Tls);
            added.map_err(|why| ClientError::Certificate(path.clone(), why))?;
        }
    } else if wants_tls {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Tls)?
        .with_root_certificates(roots);
    match (&credentials.client_certificate, &credentials.client_key) {
        (Some(certificate), Some(path)) => {
            let failed = |why| ClientError::ClientKey(path.clone(), why);
            let key = private_key(path).map_err(failed)?;
            let config = builder.with_client_auth_cert(certificates(certificate)?, key);
            config.map_err(|error| failed(CredentialError::Tls(error)))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CredentialError> {
    let text = pem(path).map_err(CredentialError::Read)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(CredentialError::Pem)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let read = || {
        let text = pem(path).map_err(CredentialError::Read)?;
        let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(CredentialError::Pem)?;
        if found.is_empty() { Err(CredentialError::Empty) } else { Ok(found) }
    };
    read().map_err(|why| ClientError::Certificate(path.to_owned(), why))
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

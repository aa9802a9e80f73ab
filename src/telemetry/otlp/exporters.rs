//! Makes the exporters of the three signals, over HTTP or gRPC.

use std::fmt;
use std::io;
use std::path::PathBuf;

use opentelemetry_otlp::tonic_types::transport::{
    Certificate, ClientTlsConfig, Identity as TlsIdentity,
};
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, RetryPolicy, SpanExporter, WithExportConfig,
    WithHttpConfig, WithTonicConfig,
};

use crate::plan::{Credentials, PipelinePlan, Protocol};
use crate::telemetry::http_client::{self, Client, ClientError, LastError};

/// Why there is no exporter for a signal.
#[derive(Debug)]
pub(super) enum ExporterError {
    Client(ClientError),
    /// A file of the credentials cannot be read.
    Credentials(PathBuf, io::Error),
    Build(ExporterBuildError),
}

impl fmt::Display for ExporterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExporterError::Client(error) => error.fmt(f),
            ExporterError::Credentials(path, error) => {
                write!(f, "read '{}': {error}", path.display())
            }
            ExporterError::Build(error) => error.fmt(f),
        }
    }
}

/// What was not sent waits for the next tick, so nothing is tried again in between.
fn no_retry() -> RetryPolicy {
    RetryPolicy::disabled()
}

fn http_client(pipeline: &PipelinePlan, last_error: &LastError) -> Result<Client, ExporterError> {
    let endpoint = pipeline.endpoint.as_deref().unwrap_or_default();
    Client::new(&pipeline.credentials, endpoint.starts_with("https:"), last_error)
        .map_err(ExporterError::Client)
}

/// `None` without files and where no TLS is wanted.
fn grpc_tls(pipeline: &PipelinePlan) -> Result<Option<ClientTlsConfig>, ExporterError> {
    let Credentials { certificate, client_key, client_certificate } = &pipeline.credentials;
    let endpoint = pipeline.endpoint.as_deref().unwrap_or_default();
    if endpoint.starts_with("http:") {
        return Ok(None);
    }
    let read = |path: &PathBuf| {
        http_client::pem(path).map_err(|error| ExporterError::Credentials(path.clone(), error))
    };
    let mut config = match certificate {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => ClientTlsConfig::new().with_enabled_roots(),
    };
    if let (Some(certificate), Some(key)) = (client_certificate, client_key) {
        config = config.identity(TlsIdentity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(Some(config))
}

macro_rules! exporter {
    ($(#[$doc:meta])* $name:ident, $kind:ty) => {
        $(#[$doc])*
        pub(super) fn $name(pipeline: &PipelinePlan, last_error: &LastError) -> Result<$kind, ExporterError> {
            match pipeline.protocol {
                Protocol::HttpProtobuf => {
                    let client = http_client(pipeline, last_error)?;
                    let builder = <$kind>::builder().with_http().with_http_client(client);
                    let builder = match &pipeline.endpoint {
                        Some(endpoint) => builder.with_endpoint(endpoint),
                        None => builder,
                    };
                    builder.with_retry_policy(no_retry()).build().map_err(ExporterError::Build)
                }
                Protocol::Grpc => {
                    let builder = <$kind>::builder().with_tonic().with_retry_policy(no_retry());
                    let builder = match grpc_tls(pipeline)? {
                        Some(config) => builder.with_tls_config(config),
                        None => builder,
                    };
                    builder.build().map_err(ExporterError::Build)
                }
            }
        }
    };
}

// Three types of the same shape, without a trait that they share.
exporter!(span_exporter, SpanExporter);
exporter!(metric_exporter, MetricExporter);
exporter!(log_exporter, LogExporter);

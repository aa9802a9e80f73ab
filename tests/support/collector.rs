//! A collector of the tests' own: it takes OTLP over HTTP or gRPC, decodes it strictly and keeps it.
//!
//! gRPC is a length before each message and a status after the answer, so a server of HTTP/2 is
//! enough, and no framework has to be built for it.

#![allow(dead_code, reason = "each test file uses its part of it")]
#![allow(
    clippy::allow_attributes,
    reason = "an expectation would fail in the files that use it all"
)]
#![allow(missing_docs, reason = "the names say it")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, server};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::support::{Place, wait_until};

/// The two ways of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Http,
    Grpc,
}

impl Wire {
    /// As OTEL_EXPORTER_OTLP_PROTOCOL has it.
    pub fn word(self) -> &'static str {
        match self {
            Wire::Http => "http/protobuf",
            Wire::Grpc => "grpc",
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub was_compressed: bool,
}

/// All that came.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub calls: Vec<Call>,
    pub spans: Vec<Span>,
    pub metrics: Vec<Metric>,
    pub records: Vec<LogRecord>,
    /// One for each request of each signal.
    pub resources: Vec<Resource>,
    pub scopes: Vec<InstrumentationScope>,
    /// What could not be decoded.
    pub broken: Vec<String>,
    /// How many requests for metrics it still refuses (503), and does not keep.
    pub refusals: usize,
    /// How many it refused.
    pub refused: usize,
    /// What it answers: how many items it rejects, and why; the same message for all signals.
    pub answer: ExportTraceServiceResponse,
}

/// The receiver. What is connected when it is dropped is cut off.
pub struct Collector {
    pub address: SocketAddr,
    wire: Wire,
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Collector {
    pub fn start(wire: Wire) -> Collector {
        Collector::with(wire, None)
    }

    pub fn secure(wire: Wire, config: ServerConfig) -> Collector {
        let mut config = config;
        config.alpn_protocols = match wire {
            Wire::Http => vec![b"http/1.1".to_vec()],
            Wire::Grpc => vec![b"h2".to_vec()],
        };
        Collector::with(wire, Some(TlsAcceptor::from(Arc::new(config))))
    }

    fn with(wire: Wire, acceptor: Option<TlsAcceptor>) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a socket");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (stop, stopped) = oneshot::channel();
        let theirs = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                tokio::select! {
                    () = accept(listener, wire, acceptor, theirs) => {}
                    _ = stopped => {}
                }
            });
        });
        Collector { address, wire, seen, stop: Some(stop), thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The variables that send all to this collector.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.address)),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", self.wire.word().to_owned()),
        ]
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        let seen = self.seen.lock().expect("no test panics with it");
        assert!(seen.broken.is_empty(), "{:?}", seen.broken);
        seen
    }

    /// Waits until something has come.
    pub fn wait(&self, what: &str, mut condition: impl FnMut(&Seen) -> bool) {
        wait_until(what, || condition(&self.seen()));
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Its thread may have gone already.
        self.stop.take().map(|stop| stop.send(()).ok());
        self.thread.take().map(|thread| thread.join().ok());
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn accept(
    listener: TcpListener,
    wire: Wire,
    acceptor: Option<TlsAcceptor>,
    seen: Arc<Mutex<Seen>>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let stream: Box<dyn Stream> = match acceptor {
                None => Box::new(stream),
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => Box::new(stream),
                    // The client will say why.
                    Err(_) => return,
                },
            };
            let service = service_fn(move |request| answer(wire, request, Arc::clone(&seen)));
            let stream = TokioIo::new(stream);
            let served = match wire {
                Wire::Http => {
                    let builder = server::conn::http1::Builder::new();
                    builder.serve_connection(stream, service).await
                }
                Wire::Grpc => {
                    let builder = server::conn::http2::Builder::new(TokioExecutor::new());
                    builder.serve_connection(stream, service).await
                }
            };
            // A client may go away at any time.
            served.ok();
        });
    }
}

async fn answer(
    wire: Wire,
    request: Request<Incoming>,
    seen: Arc<Mutex<Seen>>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: BTreeMap<String, String> =
        head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let mut message = Vec::new();
    if let Ok(body) = body.collect().await {
        let mut seen = seen.lock().expect("no test panics with it");
        if seen.refusals > 0 && path.contains("metric") {
            (seen.refusals, seen.refused) = (seen.refusals - 1, seen.refused + 1);
            let none = Full::new(Bytes::new()).with_trailers(std::future::ready(None));
            return Ok(Response::builder().status(503).body(none).expect("a response"));
        }
        message = seen.answer.encode_to_vec();
        if let Err(error) = take(wire, &mut seen, (&path, &headers), &body.to_bytes()) {
            seen.broken.push(format!("{path}: {error}"));
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let (kind, body, trailers) = match wire {
        Wire::Http => ("application/x-protobuf", message, None),
        Wire::Grpc => {
            let length = u32::try_from(message.len()).expect("a short message");
            let prefix = [&[0][..], &length.to_be_bytes()].concat();
            ("application/grpc", [prefix, message].concat(), Some(Ok(trailers)))
        }
    };
    let body = Full::new(Bytes::from(body)).with_trailers(std::future::ready(trailers));
    Ok(Response::builder().header("content-type", kind).body(body).expect("a response"))
}

fn take(
    wire: Wire,
    seen: &mut Seen,
    (path, headers): (&str, &BTreeMap<String, String>),
    body: &[u8],
) -> Result<(), String> {
    let header = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
    let (body, was_compressed) = match wire {
        Wire::Http => (body, header("content-encoding") == "gzip"),
        Wire::Grpc => {
            let (prefix, message) = body.split_at_checked(5).ok_or("no gRPC message")?;
            let length = u32::from_be_bytes(prefix[1..].try_into().expect("four bytes"));
            if message.len() != length as usize {
                return Err(format!("{} bytes for {length}", message.len()));
            }
            (message, prefix[0] == 1 && header("grpc-encoding") == "gzip")
        }
    };
    let kind = header("content-type");
    let wanted = if wire == Wire::Http { "application/x-protobuf" } else { "application/grpc" };
    if kind != wanted {
        return Err(format!("it is said to be {kind}"));
    }
    let mut unpacked = Vec::new();
    let body = if was_compressed {
        let mut reader = flate2::read::GzDecoder::new(body);
        reader.read_to_end(&mut unpacked).map_err(|error| error.to_string())?;
        &unpacked[..]
    } else {
        body
    };
    seen.calls.push(Call { path: path.to_owned(), headers: headers.clone(), was_compressed });
    keep(seen, &path.to_lowercase(), body).map_err(|error| error.to_string())
}

fn keep(seen: &mut Seen, path: &str, body: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    if path.contains("trace") {
        for one in ExportTraceServiceRequest::decode(body)?.resource_spans {
            seen.resources.extend(one.resource);
            for scope in one.scope_spans {
                seen.scopes.extend(scope.scope);
                seen.spans.extend(scope.spans);
            }
        }
    } else if path.contains("metric") {
        for one in ExportMetricsServiceRequest::decode(body)?.resource_metrics {
            seen.resources.extend(one.resource);
            for scope in one.scope_metrics {
                seen.scopes.extend(scope.scope);
                seen.metrics.extend(scope.metrics);
            }
        }
    } else if path.contains("log") {
        for one in ExportLogsServiceRequest::decode(body)?.resource_logs {
            seen.resources.extend(one.resource);
            for scope in one.scope_logs {
                seen.scopes.extend(scope.scope);
                seen.records.extend(scope.log_records);
            }
        }
    } else {
        return Err("an unknown path".into());
    }
    Ok(())
}

impl Seen {
    /// The spans of that name, in the order of their start.
    pub fn spans(&self, name: &str) -> Vec<&Span> {
        let mut spans: Vec<&Span> = self.spans.iter().filter(|span| span.name == name).collect();
        spans.sort_by_key(|span| span.start_time_unix_nano);
        spans
    }

    #[track_caller]
    pub fn run(&self) -> &Span {
        let spans = self.spans("childminder run");
        assert_eq!(spans.len(), 1, "one span for the run: {:#?}", self.spans);
        spans[0]
    }

    /// The only record of that name.
    #[track_caller]
    pub fn record(&self, name: &str) -> &LogRecord {
        let found: Vec<_> = self.records.iter().filter(|one| one.event_name == name).collect();
        assert_eq!(found.len(), 1, "one record {name}: {:#?}", self.records);
        found[0]
    }

    /// The points of a metric that tells numbers, of all its exports, and its temporality.
    pub fn points(&self, name: &str) -> Vec<(&NumberDataPoint, i32)> {
        let mut points = Vec::new();
        for metric in self.metrics.iter().filter(|metric| metric.name == name) {
            match &metric.data {
                Some(Data::Sum(sum)) => {
                    let temporality = sum.aggregation_temporality;
                    points.extend(sum.data_points.iter().map(|point| (point, temporality)));
                }
                Some(Data::Gauge(gauge)) => {
                    points.extend(gauge.data_points.iter().map(|point| (point, 0)));
                }
                _ => {}
            }
        }
        points
    }

    /// The last value of a series that has these attributes.
    pub fn value(&self, name: &str, attributes: &[(&str, &str)]) -> Option<f64> {
        let mut points = self.points(name).into_iter().filter(|(point, _)| {
            let has = |(key, value): &(&str, &str)| {
                attribute(&point.attributes, key).as_deref() == Some(*value)
            };
            attributes.iter().all(has)
        });
        points.next_back().map(|(point, _)| match point.value {
            Some(number_data_point::Value::AsDouble(value)) => value,
            Some(number_data_point::Value::AsInt(value)) => value as f64,
            None => f64::NAN,
        })
    }
}

/// The value of an attribute, in words.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|pair| pair.key == key)?;
    Some(words(found.value.as_ref()?))
}

pub fn words(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    }
}

/// Two digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The TRACEPARENT that leads to a span.
pub fn traceparent(span: &Span) -> String {
    format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
}

/// An authority with what it has signed, as files `ca.pem`, `client.pem` and `client.key`.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(place: &Place) -> Authority {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(parameters, key).expect("an authority");
        place.write("ca.pem", &issuer.pem());
        let key = KeyPair::generate().expect("a key");
        let client = CertificateParams::new(vec!["client".to_owned()]).expect("a name");
        let client = client.signed_by(&key, &issuer).expect("a certificate");
        place.write("client.pem", &client.pem());
        place.write("client.key", &key.serialize_pem());
        Authority { issuer }
    }

    /// A server at 127.0.0.1 that wants a certificate of its clients, or none.
    pub fn server(&self, wants_client: bool) -> ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("protocols");
        let builder = if wants_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).expect("an authority");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = builder.with_single_cert(vec![certificate.der().clone()], key);
        config.expect("a server")
    }
}

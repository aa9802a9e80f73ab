//! What is at which path.

use std::io::Write;
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    HeaderName, HeaderValue, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use crate::model::shared::lock;
use crate::plan::WebPlan;
use crate::telemetry::published::{MetricsForm, Published};
use crate::telemetry::web::negotiation;

/// An answer, whole: all of ours are short enough not to be streamed.
pub(super) type HttpAnswer = Response<Full<Bytes>>;

/// Below this, packing saves no packet.
const PACKED_BYTES_MIN: usize = 1_024;

/// Scripts and styles are ours alone, nothing is loaded from elsewhere, nobody frames the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// The paths and what they lead to.
pub(super) struct Routes {
    published: Arc<Published>,
    metrics_path: String,
    page: Bytes,
    /// The metrics in both forms as they were packed last, with what they were packed from.
    packed: [Mutex<Option<(Bytes, Bytes)>>; 2],
}

impl Routes {
    pub(super) fn new(published: Arc<Published>, metrics_path: &str) -> Routes {
        let page = include_str!("page/page.html")
            .replace("{{metrics}}", &html_escaped(&relative(metrics_path)))
            .replace("{{version}}", env!("CARGO_PKG_VERSION"));
        let metrics_path = metrics_path.to_owned();
        Routes { published, metrics_path, page: Bytes::from(page), packed: Default::default() }
    }

    /// Answers a request that was let in.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> HttpAnswer {
        let path = request.uri().path();
        let is_known =
            path == self.metrics_path || WebPlan::PAGE.iter().any(|(known, _)| *known == path);
        if !is_known {
            return plain(StatusCode::NOT_FOUND, "404: there is nothing here\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "405: only GET and HEAD\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        if path == self.metrics_path { self.metrics(request) } else { self.other(request) }
    }

    fn metrics<B>(&self, request: &Request<B>) -> HttpAnswer {
        let form = negotiation::form(request.headers());
        // Read before the numbers: these are then the last ones.
        let is_of_the_end = request.method() == Method::GET && self.published.has_ended();
        let text = self.published.text(form);
        let kind = match form {
            MetricsForm::Text => "text/plain; version=0.0.4; charset=utf-8",
            MetricsForm::OpenMetrics => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
        };
        let mut answer = if negotiation::gzip(request.headers()) {
            packed_answer(kind, self.packed(form, &text))
        } else {
            whole(kind, text)
        };
        answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if is_of_the_end {
            // There is nothing more to ask for, and the end of the connection shows that it was read.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    /// Whether an answer has the metrics of the run's end.
    pub(super) fn is_of_the_end(answer: &HttpAnswer) -> bool {
        answer.headers().contains_key(CONNECTION)
    }

    /// A client has received the metrics of the run's end.
    pub(super) fn note_end_scraped(&self) {
        self.published.note_end_scraped();
    }

    /// The same text is packed once, however many ask. It is the same if it is in the same place:
    /// the one that we hold keeps its place taken.
    fn packed(&self, form: MetricsForm, text: &Bytes) -> Bytes {
        let mut packed = lock(&self.packed[form as usize]);
        match &*packed {
            Some((from, bytes)) if from.as_ptr() == text.as_ptr() => bytes.clone(),
            _ => {
                let bytes = gzip(text);
                *packed = Some((text.clone(), bytes.clone()));
                bytes
            }
        }
    }

    fn other<B>(&self, request: &Request<B>) -> HttpAnswer {
        let script = include_str!("page/page.js");
        let style = include_str!("page/page.css");
        let (kind, body) = match request.uri().path() {
            "/healthz" => return plain(StatusCode::OK, "ok\n"),
            "/status.json" => ("application/json", Bytes::from(self.published.status())),
            "/page.js" => ("text/javascript; charset=utf-8", Bytes::from_static(script.as_bytes())),
            "/page.css" => ("text/css; charset=utf-8", Bytes::from_static(style.as_bytes())),
            _ => (HTML, self.page.clone()),
        };
        let is_packed = body.len() >= PACKED_BYTES_MIN && negotiation::gzip(request.headers());
        let mut answer =
            if is_packed { packed_answer(kind, gzip(&body)) } else { whole(kind, body) };
        let headers = answer.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        if kind == HTML {
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
            headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        }
        answer
    }
}

pub(super) fn plain(status: StatusCode, text: &'static str) -> HttpAnswer {
    let mut answer = whole(PLAIN, Bytes::from_static(text.as_bytes()));
    *answer.status_mut() = status;
    answer
}

fn whole(kind: &'static str, body: Bytes) -> HttpAnswer {
    let mut answer = Response::new(Full::new(body));
    let pairs: [(HeaderName, &'static str); 3] = [
        (CONTENT_TYPE, kind),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Script and style go with the version of the page, and that with the job: nothing is kept.
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in pairs {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn packed_answer(kind: &'static str, body: Bytes) -> HttpAnswer {
    let mut answer = whole(kind, body);
    answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer
}

fn gzip(bytes: &[u8]) -> Bytes {
    let room = Vec::with_capacity(bytes.len() / 4);
    let mut encoder = GzEncoder::new(room, Compression::fast());
    // Writing to memory cannot fail.
    encoder.write_all(bytes).ok();
    Bytes::from(encoder.finish().unwrap_or_default())
}

/// The way to a path from `/`: behind a proxy that adds a prefix it stays below that prefix.
fn relative(path: &str) -> String {
    format!(".{path}")
}

fn html_escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use http_body_util::BodyExt;

    use crate::telemetry::web::tests::published;

    use super::*;

    fn ask(request: Request<()>) -> (Response<()>, Vec<u8>) {
        let routes = Routes::new(published(), "/m&m");
        let (head, body) = routes.answer(&request).into_parts();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(body.collect()).unwrap().to_bytes();
        (Response::from_parts(head, ()), body.to_vec())
    }

    fn get(path: &str) -> (Response<()>, Vec<u8>) {
        ask(Request::get(path).body(()).unwrap())
    }

    #[test]
    fn every_path_has_its_kind_and_is_not_sniffed() {
        for (path, kind) in [
            ("/", "text/html; charset=utf-8"),
            ("/m&m", "text/plain; version=0.0.4; charset=utf-8"),
            ("/status.json?x=1", "application/json"),
            ("/page.js", "text/javascript; charset=utf-8"),
            ("/page.css", "text/css; charset=utf-8"),
            ("/healthz", "text/plain; charset=utf-8"),
        ] {
            let (head, body) = get(path);
            assert_eq!(head.status(), 200, "{path}");
            assert_eq!(head.headers()[CONTENT_TYPE], kind);
            assert_eq!(head.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(head.headers()[CACHE_CONTROL], "no-store");
            assert!(!body.is_empty(), "{path}");
        }
        for path in ["/x", "/metrics", "//", "/page.html", "/m&m/"] {
            assert_eq!(get(path).0.status(), 404, "{path}");
        }
    }

    #[test]
    fn the_page_has_a_policy_and_the_path_without_a_way_out_of_it() {
        let (head, body) = get("/");
        let policy = head.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"));
        assert_eq!(head.headers()[REFERRER_POLICY], "no-referrer");
        let page = String::from_utf8(body).unwrap();
        assert!(page.contains("href=\"./m&amp;m\""));
        assert!(!page.contains("{{"));
        // Each link stays below the prefix of a proxy.
        let script = include_str!("page/page.js");
        for text in [page.as_str(), script] {
            assert!(!text.contains("=\"/") && !text.contains("(\"/"), "{text}");
        }
        assert!(!page.contains("<style") && !page.contains("onclick") && !page.contains("style="));
    }

    /// The page is loaded at three in the morning over whatever there is.
    #[test]
    fn the_page_is_small() {
        let packed = |path: &str| {
            let request = Request::get(path).header("accept-encoding", "gzip");
            ask(request.body(()).unwrap()).1.len()
        };
        let bytes: usize = ["/", "/page.js", "/page.css"].map(packed).iter().sum();
        assert!(bytes < 12 * 1024, "{bytes} bytes");
    }

    #[test]
    fn only_reading_is_allowed() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let request = Request::builder().method(method).uri("/healthz").body(()).unwrap();
            let (head, _) = ask(request);
            assert_eq!(head.status(), 405, "{method}");
            assert_eq!(head.headers()[ALLOW], "GET, HEAD");
        }
    }

    #[test]
    fn what_is_packed_is_the_same_text() {
        let accept = "application/openmetrics-text;version=1.0.0";
        let request = Request::get("/m&m").header("accept", accept);
        let (head, body) = ask(request.header("accept-encoding", "gzip").body(()).unwrap());
        assert_eq!(head.headers()[CONTENT_ENCODING], "gzip");
        assert_eq!(head.headers()[VARY], "Accept, Accept-Encoding");
        let mut text = String::new();
        GzDecoder::new(body.as_slice()).read_to_string(&mut text).unwrap();
        assert!(text.contains("childminder_build_info{") && text.ends_with("# EOF\n"), "{text}");
        assert!(body.len() < text.len() / 3);
    }
}

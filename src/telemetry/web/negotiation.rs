//! What a client wants: the form of the metrics and whether packed (RFC 9110, section 12).

use hyper::HeaderMap;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};

use crate::telemetry::published::MetricsForm;

/// At most this number of accepted formats is read: Prometheus sends five.
const WISHES_MAX: usize = 32;

/// One item of a header: what, its parameters, and how much it is wanted, in thousandths.
struct Wish<'a> {
    what: &'a str,
    parameters: &'a str,
    quality: u16,
}

/// Returns the form that is wanted most. Whoever accepts nothing that we have gets text: it is what
/// Prometheus falls back to.
#[must_use]
pub(super) fn form(headers: &HeaderMap) -> MetricsForm {
    let (mut open, mut text) = (0, 0);
    for wish in wishes(headers, &ACCEPT) {
        match wish.what {
            // The older version 0.0.1 of OpenMetrics is not supported.
            "application/openmetrics-text" if wish.has_version("1.0.0") => {
                open = wish.quality.max(open);
            }
            "text/plain" if wish.has_version("0.0.4") => text = wish.quality.max(text),
            _ => {}
        }
    }
    // A browser says neither, and `*/*` does not ask for OpenMetrics.
    if open > 0 && open >= text { MetricsForm::OpenMetrics } else { MetricsForm::Text }
}

/// Whether gzip is accepted.
#[must_use]
pub(super) fn gzip(headers: &HeaderMap) -> bool {
    let (mut named, mut any) = (None, 0);
    for wish in wishes(headers, &ACCEPT_ENCODING) {
        match wish.what {
            "gzip" | "x-gzip" => named = Some(wish.quality),
            "*" => any = wish.quality,
            _ => {}
        }
    }
    named.unwrap_or(any) > 0
}

impl Wish<'_> {
    /// Whether it wants this version, or any.
    fn has_version(&self, version: &str) -> bool {
        parameter(self.parameters, "version").is_none_or(|one| one.trim_matches('"') == version)
    }
}

fn wishes<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Wish<'a>> {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let items = texts.flat_map(|text| text.split(',')).take(WISHES_MAX);
    items.map(|item| {
        let (what, parameters) = item.split_once(';').unwrap_or((item, ""));
        let quality = parameter(parameters, "q").map_or(Some(1.0), |q| q.parse::<f32>().ok());
        // What cannot be read is not wanted.
        let quality = (quality.unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0) as u16;
        Wish { what: what.trim(), parameters, quality }
    })
}

fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let pairs = parameters.split(';').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.trim(), value.trim()))
        .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn each_prometheus_gets_what_it_wants_most() {
        let two = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                   version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let three = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                     application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;\
                     escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let only_text = "text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let rather_text = "application/openmetrics-text;q=0.4, text/plain ; q=0.9";
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let old = "application/openmetrics-text;version=0.0.1";
        let quoted = "application/openmetrics-text; version=\"1.0.0\"; charset=utf-8";
        let never = "application/openmetrics-text;q=0";
        for (accept, wanted) in [
            (two, MetricsForm::OpenMetrics),
            (three, MetricsForm::OpenMetrics),
            (quoted, MetricsForm::OpenMetrics),
            (only_text, MetricsForm::Text),
            (rather_text, MetricsForm::Text),
            (browser, MetricsForm::Text),
            (old, MetricsForm::Text),
            (never, MetricsForm::Text),
            ("application/openmetrics-text;q=much", MetricsForm::Text),
            (";;,=,q=;", MetricsForm::Text),
        ] {
            assert_eq!(form(&headers(ACCEPT, accept)), wanted, "{accept}");
        }
        assert_eq!(form(&HeaderMap::new()), MetricsForm::Text);
    }

    #[test]
    fn gzip_is_given_to_those_who_ask() {
        for (accept, wanted) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("br", false),
            ("identity", false),
        ] {
            assert_eq!(gzip(&headers(ACCEPT_ENCODING, accept)), wanted, "{accept}");
        }
        assert!(!gzip(&HeaderMap::new()));
    }
}

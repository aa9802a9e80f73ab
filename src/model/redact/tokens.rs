//! Shapes of tokens, private keys and addresses that are secrets by themselves.
//!
//! Prefixes and lengths are facts from the documentation of the services: GitHub "About
//! authentication", GitLab "Token prefixes", Slack "Token types", AWS IAM "IAM identifiers", Stripe "API
//! keys", Google Cloud "Authenticate by using API keys", PyPI and npm on access tokens, HashiCorp Vault
//! "Tokens", and those of SendGrid, DigitalOcean, Shopify, Hugging Face, Docker Hub, Grafana, Databricks
//! and Atlassian; JWT is RFC 7519, PEM is RFC 7468.

use std::ops::Range;

/// Prefixes of tokens in the alphabet `A-Za-z0-9_-.`, each with the fewest letters and digits in a
/// row that follow it.
const PREFIXES: &[(&str, usize)] = &[
    ("ghp_", 16),
    ("gho_", 16),
    ("ghu_", 16),
    ("ghs_", 16),
    ("ghr_", 16),
    ("github_pat_", 20),
    ("glpat-", 12),
    ("gldt-", 12),
    ("glrt-", 12),
    ("glptt-", 12),
    ("glcbt-", 12),
    ("gloas-", 12),
    ("glsoat-", 12),
    ("GR1348941", 12),
    ("xoxb-", 10),
    ("xoxp-", 10),
    ("xoxa-", 10),
    ("xoxr-", 10),
    ("xoxs-", 10),
    ("xoxe-", 10),
    ("xoxe.", 10),
    ("xapp-", 10),
    ("AKIA", 12),
    ("ASIA", 12),
    ("ABIA", 16),
    ("ACCA", 16),
    ("sk_live_", 10),
    ("sk_test_", 10),
    ("rk_live_", 10),
    ("rk_test_", 10),
    ("whsec_", 16),
    ("AIza", 10),
    ("ya29.", 12),
    ("GOCSPX-", 12),
    ("sk-", 16),
    ("hf_", 16),
    ("gsk_", 16),
    ("r8_", 16),
    ("pypi-", 16),
    ("npm_", 16),
    ("rubygems_", 16),
    ("dckr_pat_", 12),
    ("hvs.", 12),
    ("hvb.", 12),
    ("hvr.", 12),
    ("SG.", 12),
    ("dop_v1_", 16),
    ("doo_v1_", 16),
    ("dor_v1_", 16),
    ("shpat_", 16),
    ("shpss_", 16),
    ("shpca_", 16),
    ("shppa_", 16),
    ("sq0atp-", 12),
    ("sq0csp-", 12),
    ("xkeysib-", 16),
    ("key-", 24),
    ("sntrys_", 16),
    ("sntryu_", 16),
    ("glsa_", 16),
    ("glc_", 16),
    ("NRAK-", 16),
    ("lin_api_", 16),
    ("ntn_", 16),
    ("figd_", 12),
    ("PMAK-", 16),
    ("dapi", 30),
    ("AGE-SECRET-KEY-1", 16),
    ("pscale_tkn_", 12),
    ("pscale_pw_", 12),
    ("ATATT3x", 16),
    ("ATBB", 16),
    ("CFPAT-", 12),
    ("sgp_", 16),
    ("bkua_", 16),
    ("CCIPAT_", 12),
    ("sbp_", 16),
    ("tskey-", 12),
];

/// Addresses whose path is the secret.
const SECRET_PATHS: [&str; 5] = [
    "hooks.slack.com/services/",
    "discord.com/api/webhooks/",
    "discordapp.com/api/webhooks/",
    "webhook.office.com/webhookb2/",
    "api.telegram.org/bot",
];

/// What a secret access key of AWS is made of, and how long it is.
const AWS_SECRET_LENGTH: usize = 40;

/// More of a PEM armour's first line is not looked at.
const ARMOUR_BYTES_MAX: usize = 80;

/// Finds tokens, private keys and secret addresses in a word.
pub(super) fn find(text: &[u8], mut found: impl FnMut(Range<usize>)) {
    for run in runs(text, is_in_token) {
        if let Some(at) = prefixed(&text[run.clone()]) {
            found(run.start + at..run.end);
        }
        if let Some(at) = web_token(&text[run.clone()]) {
            found(run.start + at..run.end);
        }
    }
    private_keys(text, &mut found);
    for (place, host) in SECRET_PATHS.iter().filter_map(|host| Some((position(text, host)?, host)))
    {
        let start = place + host.len();
        let end = start + text[start..].iter().take_while(|byte| !is_end_of_url(**byte)).count();
        if text[start..end].iter().filter(|byte| byte.is_ascii_alphanumeric()).count() >= 8 {
            found(start..end);
        }
    }
}

/// Returns whether there is the id of a key of AWS: its secret may be near.
pub(super) fn has_aws_id(text: &[u8]) -> bool {
    let is_id = |run: Range<usize>| {
        let run = &text[run];
        run.len() == 20 && (run.starts_with(b"AKIA") || run.starts_with(b"ASIA"))
    };
    runs(text, |byte| byte.is_ascii_alphanumeric()).any(is_id)
}

/// Finds what may be secret access keys of AWS.
pub(super) fn find_aws_secrets(text: &[u8], mut found: impl FnMut(Range<usize>)) {
    let is_in_key = |byte: u8| byte.is_ascii_alphanumeric() || b"+/".contains(&byte);
    for run in runs(text, is_in_key) {
        if run.len() == AWS_SECRET_LENGTH && is_mixed(&text[run.clone()]) {
            found(run);
        }
    }
}

/// Returns whether there are capitals, small letters and digits.
pub(super) fn is_mixed(text: &[u8]) -> bool {
    text.iter().any(u8::is_ascii_digit)
        && text.iter().any(u8::is_ascii_uppercase)
        && text.iter().any(u8::is_ascii_lowercase)
}

fn is_in_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

fn is_end_of_url(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"\"'<>?#".contains(&byte)
}

/// Splits a text into its longest pieces of such bytes.
pub(super) fn runs(text: &[u8], is_in: impl Fn(u8) -> bool) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].iter().position(|byte| is_in(*byte))?;
        let length = text[start..].iter().position(|byte| !is_in(*byte));
        at = length.map_or(text.len(), |length| start + length);
        Some(start..at)
    })
}

/// Finds where a token begins: at its prefix, unless a letter or digit is before it (but that of an
/// option: `-pTOKEN`).
fn prefixed(run: &[u8]) -> Option<usize> {
    PREFIXES
        .iter()
        .filter_map(|(prefix, piece_min)| {
            if run.len() < prefix.len() + piece_min {
                return None;
            }
            let at = position(run, prefix)?;
            let is_begin =
                at == 0 || !run[at - 1].is_ascii_alphanumeric() || run.starts_with(b"-") && at == 2;
            let rest = &run[at + prefix.len()..];
            let longest =
                runs(rest, |byte| byte.is_ascii_alphanumeric()).map(|one| one.len()).max();
            let is_random = rest.iter().any(u8::is_ascii_digit);
            (is_begin && is_random && longest >= Some(*piece_min)).then_some(at)
        })
        .min()
}

/// Finds a JSON web token: the base64 of `{"` begins two of its three parts.
fn web_token(run: &[u8]) -> Option<usize> {
    let at = position(run, "eyJ")?;
    let mut parts = run[at..].split(|byte| *byte == b'.');
    let (head, body) = (parts.next()?, parts.next().unwrap_or_default());
    let is_token = head.len() >= 12 && (body.starts_with(b"eyJ") || body.len() >= 16);
    (is_token || head.starts_with(b"eyJhbGciOi")).then_some(at)
}

fn private_keys(text: &[u8], found: &mut impl FnMut(Range<usize>)) {
    let mut at = 0;
    while let Some(begin) = position(&text[at..], "-----BEGIN ") {
        let begin = at + begin;
        at = begin + 1;
        let first = &text[begin..text.len().min(begin + ARMOUR_BYTES_MAX)];
        if position(first, "PRIVATE KEY").is_some() {
            let end = position(&text[begin..], "-----END ").map(|end| begin + end);
            let rest = end.and_then(|end| Some(end + 9 + position(&text[end + 9..], "-----")? + 5));
            at = rest.unwrap_or(text.len());
            found(begin..at);
        }
    }
}

/// Returns the position of a text in another one.
pub(super) fn position(text: &[u8], wanted: &str) -> Option<usize> {
    memchr::memmem::find(text, wanted.as_bytes())
}

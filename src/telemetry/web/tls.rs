//! TLS for the server, out of `tls_server_config`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion,
};
use serde::Deserialize;

use crate::telemetry::web::config_file::{self, ConfigError};
use crate::telemetry::web::names;

#[derive(Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsConfigFile {
    cert: Option<String>,
    key: Option<String>,
    client_ca: Option<String>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    client_ca_file: Option<PathBuf>,
    client_auth_type: Option<String>,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Option<Vec<String>>,
    prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Option<Vec<String>>,
}

/// What is asked of a client, by the words of Go's crypto/tls.
#[derive(Clone, Copy, PartialEq)]
enum ClientAuth {
    None,
    Request,
    RequireAny,
    VerifyIfGiven,
    RequireAndVerify,
}

impl TlsConfigFile {
    /// Makes paths relative to the directory of the file; returns all.
    pub(super) fn resolve(&mut self, directory: &Path) -> Vec<PathBuf> {
        let files = [&mut self.cert_file, &mut self.key_file, &mut self.client_ca_file];
        let resolve = |path: &mut PathBuf| {
            *path = directory.join(&*path);
            path.clone()
        };
        files.into_iter().flatten().map(resolve).collect()
    }

    /// Whether nobody gets in without a certificate.
    pub(super) fn demands_certificate(&self) -> bool {
        matches!(self.client_auth(), Ok(ClientAuth::RequireAny | ClientAuth::RequireAndVerify))
    }

    fn client_auth(&self) -> Result<ClientAuth, ConfigError> {
        match self.client_auth_type.as_deref().unwrap_or("") {
            "" | "NoClientCert" => Ok(ClientAuth::None),
            "RequestClientCert" => Ok(ClientAuth::Request),
            // The second is what the toolkit once called it.
            "RequireAnyClientCert" | "RequireClientCert" => Ok(ClientAuth::RequireAny),
            "VerifyClientCertIfGiven" => Ok(ClientAuth::VerifyIfGiven),
            "RequireAndVerifyClientCert" => Ok(ClientAuth::RequireAndVerify),
            other => Err(ConfigError::new(format!("client_auth_type '{other}' is not known"))),
        }
    }
}

/// Builds what rustls takes.
pub(super) fn server_config(typed: &TlsConfigFile) -> Result<Arc<ServerConfig>, ConfigError> {
    let said = |error: Error| ConfigError::new(format!("tls_server_config: {error}"));
    let provider = Arc::new(provider(typed)?);
    let verifier = verifier(typed, &provider)?;
    let (chain, key) = identity(typed)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(typed)?)
        .map_err(said)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(said)?;
    config.ignore_client_order = typed.prefer_server_cipher_suites.unwrap_or(true);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The text of a file or, without one, what stands in the configuration itself.
fn pem(file: Option<&PathBuf>, text: Option<&String>, name: &str) -> Result<String, ConfigError> {
    match (file, text) {
        (Some(file), _) => config_file::read(file),
        (None, Some(text)) => Ok(text.clone()),
        (None, None) => Err(ConfigError::new(format!("tls_server_config: {name} is missing"))),
    }
}

fn identity(
    typed: &TlsConfigFile,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigError> {
    let chain = certificates(
        &pem(typed.cert_file.as_ref(), typed.cert.as_ref(), "cert_file")?,
        "cert_file",
    )?;
    let key = pem(typed.key_file.as_ref(), typed.key.as_ref(), "key_file")?;
    let wrong = |error| ConfigError::new(format!("key_file: no private key in PEM: {error}"));
    Ok((chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(wrong)?))
}

fn certificates(text: &str, name: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let wrong = |error| ConfigError::new(format!("{name}: no certificates in PEM: {error}"));
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().map_err(wrong)?;
    if all.is_empty() {
        return Err(ConfigError::new(format!("{name}: no certificate is in it")));
    }
    Ok(all)
}

fn versions(typed: &TlsConfigFile) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
    let number = |name: &str, typed: &Option<String>, default| match typed.as_deref() {
        None => Ok(default),
        Some("TLS12") => Ok(12),
        Some("TLS13") => Ok(13),
        Some(other) => Err(ConfigError::new(format!("{name} '{other}': say TLS12 or TLS13"))),
    };
    let lowest = number("min_version", &typed.min_version, 12)?;
    let highest = number("max_version", &typed.max_version, 13)?;
    if lowest > highest {
        return Err(ConfigError::new("min_version is above max_version"));
    }
    let all = [(13, &TLS13), (12, &TLS12)].into_iter();
    let within = all.filter(|(number, _)| (lowest..=highest).contains(number));
    Ok(within.map(|(_, version)| version).collect())
}

/// What ring can do, less what was not asked for.
fn provider(typed: &TlsConfigFile) -> Result<CryptoProvider, ConfigError> {
    let mut provider = ring::default_provider();
    if let Some(names) = typed.cipher_suites.as_ref().filter(|names| !names.is_empty()) {
        let all = &ring::default_provider().cipher_suites;
        // As in Go, the list is about TLS 1.2; those of 1.3 are fixed.
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        for name in names {
            let suite = all.iter().find(|suite| go_name(suite) == *name);
            let unknown = || ConfigError::new(format!("cipher suite '{name}' is not supported"));
            let suite = suite.ok_or_else(unknown)?;
            if suite.tls13().is_none() {
                provider.cipher_suites.push(*suite);
            }
        }
    }
    if let Some(names) = typed.curve_preferences.as_ref().filter(|names| !names.is_empty()) {
        let group = |name: &String| match name.as_str() {
            "X25519" => Ok(ring::kx_group::X25519),
            "CurveP256" => Ok(ring::kx_group::SECP256R1),
            "CurveP384" => Ok(ring::kx_group::SECP384R1),
            _ => Err(ConfigError::new(format!("curve '{name}' is not supported"))),
        };
        provider.kx_groups = names.iter().map(group).collect::<Result<_, _>>()?;
    }
    Ok(provider)
}

/// Go and the IANA write `TLS_AES_...` where rustls has `TLS13_AES_...`.
fn go_name(suite: &SupportedCipherSuite) -> String {
    suite.suite().as_str().unwrap_or_default().replace("TLS13_", "TLS_")
}

fn verifier(
    typed: &TlsConfigFile,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
    let auth = typed.client_auth()?;
    let is_required = typed.demands_certificate();
    let has_authority = typed.client_ca.is_some() || typed.client_ca_file.is_some();
    if has_authority && auth == ClientAuth::None {
        return Err(ConfigError::new("client_ca_file is of no use without client_auth_type"));
    }
    if typed.client_allowed_sans.is_some() && !is_required {
        return Err(ConfigError::new(
            "client_allowed_sans needs client_auth_type RequireAnyClientCert or \
             RequireAndVerifyClientCert",
        ));
    }
    if auth == ClientAuth::None {
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    let chain = match auth {
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => Some(trusted(typed, provider)?),
        _ => None,
    };
    let algorithms = provider.signature_verification_algorithms;
    let names = typed.client_allowed_sans.clone();
    Ok(Arc::new(Verifier { chain, is_required, names, algorithms }))
}

/// Verifies chains up to the authorities that were given. The system's are not taken: a certificate
/// of the public web says nothing about who may read here.
fn trusted(
    typed: &TlsConfigFile,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
    let text = pem(typed.client_ca_file.as_ref(), typed.client_ca.as_ref(), "client_ca_file")?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&text, "client_ca_file")? {
        let wrong = |error| ConfigError::new(format!("client_ca_file: {error}"));
        roots.add(certificate).map_err(wrong)?;
    }
    let provider = Arc::clone(provider);
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    built.map_err(|error| ConfigError::new(format!("client_ca_file: {error}")))
}

/// Asks for a certificate, and looks at it as far as `client_auth_type` wants.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<dyn ClientCertVerifier>>,
    is_required: bool,
    names: Option<Vec<String>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(certificate, intermediates, now)?;
        }
        if let Some(allowed) = &self.names {
            let names = names::of_certificate(certificate);
            if !names.iter().any(|name| allowed.contains(name)) {
                return Err(CertificateError::NotValidForName.into());
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn typed(more: &str) -> TlsConfigFile {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let mut typed: TlsConfigFile = serde_saphyr::from_str(&format!("{{{more}}}")).unwrap();
        typed.cert = Some(certificate.pem());
        typed.key = Some(key.serialize_pem());
        typed
    }

    fn refused(more: &str) -> String {
        server_config(&typed(more)).map(drop).expect_err(more).to_string()
    }

    #[test]
    fn what_ring_can_do_may_be_asked_for() {
        for more in [
            "",
            "min_version: TLS13",
            "max_version: TLS12",
            "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]",
            "curve_preferences: [CurveP384, X25519], prefer_server_cipher_suites: false",
            "client_auth_type: RequestClientCert",
            "client_auth_type: RequireAnyClientCert, client_allowed_sans: [a]",
        ] {
            if let Err(error) = server_config(&typed(more)) {
                panic!("{more}: {error}");
            }
        }
    }

    #[test]
    fn what_it_cannot_is_refused_by_name() {
        for (more, word) in [
            ("min_version: TLS10", "TLS10"),
            ("min_version: TLS13, max_version: TLS12", "min_version"),
            ("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]", "TLS_RSA_WITH_AES_128_CBC_SHA"),
            ("curve_preferences: [CurveP521]", "CurveP521"),
            ("client_auth_type: Perhaps", "Perhaps"),
            ("client_auth_type: RequireAndVerifyClientCert", "client_ca_file"),
            ("client_ca_file: x", "client_auth_type"),
            ("client_allowed_sans: [a]", "client_allowed_sans"),
            ("client_auth_type: VerifyClientCertIfGiven, client_allowed_sans: [a]", "sans"),
            ("client_auth_type: RequireAndVerifyClientCert, client_ca: x", "client_ca_file"),
            ("cert_file: /nowhere/x", "/nowhere/x"),
        ] {
            let said = refused(more);
            assert!(said.contains(word), "{more}: {said}");
        }
        let lone = TlsConfigFile { key: None, ..typed("") };
        assert!(server_config(&lone).map(drop).unwrap_err().to_string().contains("key_file"));
        let foreign = TlsConfigFile { key: typed("").key, ..typed("") };
        assert!(server_config(&foreign).is_err(), "a key that is not the certificate's");
    }
}

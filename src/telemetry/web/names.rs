//! The names in a client's certificate (RFC 5280, subjectAltName), for `client_allowed_sans`.
//!
//! rustls has verified the certificate and gives no access to e-mail and IP names; the few bytes of
//! DER on the way to the extension are read here. What is not well formed has no names.

use std::net::{Ipv4Addr, Ipv6Addr};

/// id-ce-subjectAltName, 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
/// `[3] EXPLICIT` of TBSCertificate.
const EXTENSIONS: u8 = 0xa3;

/// Returns the DNS, e-mail, URI and IP names.
#[must_use]
pub(super) fn of_certificate(der: &[u8]) -> Vec<String> {
    extension(der).map(|names| Elements(names).filter_map(name).collect()).unwrap_or_default()
}

/// The content of the extension's sequence of names.
fn extension(der: &[u8]) -> Option<&[u8]> {
    let certificate = Elements(der).find_tag(SEQUENCE)?;
    let body = Elements(certificate).find_tag(SEQUENCE)?;
    let extensions = Elements(Elements(body).find_tag(EXTENSIONS)?).find_tag(SEQUENCE)?;
    let ours = Elements(extensions)
        .find(|(_, one)| Elements(one).find_tag(OBJECT_IDENTIFIER) == Some(SUBJECT_ALT_NAME))?;
    Elements(Elements(ours.1).find_tag(OCTET_STRING)?).find_tag(SEQUENCE)
}

fn name((tag, content): (u8, &[u8])) -> Option<String> {
    match tag {
        // rfc822Name, dNSName, uniformResourceIdentifier.
        0x81 | 0x82 | 0x86 => str::from_utf8(content).ok().map(str::to_owned),
        0x87 => match content.len() {
            4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(content).ok()?).to_string()),
            _ => Some(Ipv6Addr::from(<[u8; 16]>::try_from(content).ok()?).to_string()),
        },
        _ => None,
    }
}

/// Tag and content of each element; ends at what is not well formed.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// The content of the first with that tag.
    fn find_tag(&mut self, wanted: u8) -> Option<&'a [u8]> {
        Iterator::find(self, |(tag, _)| *tag == wanted).map(|(_, content)| content)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        // From 128 on, the low bits say how many bytes of length follow.
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn every_kind_of_name_is_found() {
        let der = certificate(vec![
            SanType::DnsName("prometheus.example".try_into().unwrap()),
            SanType::Rfc822Name("a@b.example".try_into().unwrap()),
            SanType::URI("spiffe://x/y".try_into().unwrap()),
            SanType::IpAddress("10.0.0.1".parse().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
        ]);
        let names =
            ["prometheus.example", "a@b.example", "spiffe://x/y", "10.0.0.1", "2001:db8::1"];
        assert_eq!(of_certificate(&der), names);
        assert!(of_certificate(&certificate(Vec::new())).is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(of_certificate(&bytes).len() <= bytes.len());
        }

        #[test]
        fn no_cut_makes_it_panic(end in 0_usize..400) {
            let der = certificate(vec![SanType::DnsName("a".try_into().unwrap())]);
            prop_assert!(of_certificate(&der[..end.min(der.len())]).len() <= 1);
        }
    }
}

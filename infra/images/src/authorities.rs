//! The certificate authorities that an image trusts: Mozilla's, in the version of the lock file. Those of this machine
//! would make the digest depend on it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// Longest line of base64 in a PEM file.
const LINE: usize = 64;

/// All of them as one PEM file.
pub(crate) fn pem() -> String {
    let mut text = String::new();
    for certificate in TLS_SERVER_ROOT_CERTS {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(LINE));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_many_and_each_is_framed() {
        let text = pem();
        assert!(text.matches("-----BEGIN CERTIFICATE-----").count() > 100);
        assert!(text.lines().all(|line| line.len() <= LINE));
        let first: String = text.lines().skip(1).take_while(|line| !line.starts_with('-')).collect();
        assert_eq!(STANDARD.decode(first).unwrap(), TLS_SERVER_ROOT_CERTS[0].as_ref());
    }
}

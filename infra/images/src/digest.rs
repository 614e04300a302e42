//! SHA-256 as registries write it, by the TLS library, whose implementation is fast in every build.

use std::fmt::Write as _;

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

/// `sha256:` and 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("it is a suite of TLS 1.3");
    let mut hash = suite.common.hash_provider.start();
    hash.update(bytes);
    let mut text = "sha256:".to_owned();
    for byte in hash.finish().as_ref() {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sha_256() {
        assert_eq!(sha256(b"hello"), "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    }
}

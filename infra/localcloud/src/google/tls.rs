//! TLS for the one client that speaks nothing else.

use std::{net::IpAddr, sync::Arc};

use anyhow::Context as _;

/// A self-signed certificate, for clients that do not verify it.
pub(super) fn config(listen: IpAddr) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let names = vec![listen.to_string(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).context("make a certificate")?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .context("use the certificate")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

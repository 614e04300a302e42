//! The certificate authority of a cluster and the certificate of its API server, made at the first start.

use std::{fs, path::Path, sync::Arc};

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What the server shows and what its clients trust.
pub struct Certificates {
    /// The authority, as PEM.
    pub ca_pem: String,
    /// TLS settings of the server.
    pub tls: Arc<rustls::ServerConfig>,
}

/// The certificates of a cluster. The authority is kept in `folder` and used again.
///
/// # Errors
/// When they cannot be made, read or written.
pub fn load(folder: &Path) -> anyhow::Result<Certificates> {
    fs::create_dir_all(folder).with_context(|| format!("make folder {}", folder.display()))?;
    let (key_path, pem_path) = (folder.join("ca.key"), folder.join("ca.crt"));
    let (key, ca_pem) = match (fs::read_to_string(&key_path), fs::read_to_string(&pem_path)) {
        (Ok(key), Ok(pem)) => (KeyPair::from_pem(&key).context("read the authority's key")?, pem),
        _ => {
            let key = KeyPair::generate().context("make the authority's key")?;
            let pem = authority()?.self_signed(&key).context("make the authority's certificate")?.pem();
            fs::write(&key_path, key.serialize_pem()).context("write the authority's key")?;
            fs::write(&pem_path, &pem).context("write the authority's certificate")?;
            (key, pem)
        }
    };
    let issuer = Issuer::new(authority()?, key);
    let server_key = KeyPair::generate().context("make the server's key")?;
    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned);
    let mut params = CertificateParams::new(names).context("name the server")?;
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    let certificate = params.signed_by(&server_key, &issuer).context("make the server's certificate")?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .context("use the server's certificate")?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Certificates { ca_pem, tls: Arc::new(tls) })
}

fn authority() -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).context("name the authority")?;
    params.distinguished_name.push(DnType::CommonName, "deskgrid laptop cloud");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

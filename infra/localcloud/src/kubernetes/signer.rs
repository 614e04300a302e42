//! The key of a cluster that signs the tokens of service accounts, and checks those for the API server.

use std::{fs, os::unix::fs::OpenOptionsExt as _, path::Path, sync::LazyLock};

use anyhow::Context as _;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    jwk::{Jwk, PublicKeyUse, ThumbprintHash},
};
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};

/// Who signs the tokens, and the audience of those that the API server takes.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The key of a cluster that signs tokens.
pub struct Signer {
    encoding: EncodingKey,
    decoding: DecodingKey,
    public: Jwk,
}

impl Signer {
    /// The key that is saved in a file, or a new one that is saved there.
    ///
    /// # Errors
    /// When the key cannot be made, read or written.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        // A key takes longer to make than a cluster to start, so the new clusters of a process share one.
        static NEW: LazyLock<Result<String, rcgen::Error>> =
            LazyLock::new(|| KeyPair::generate_for(&PKCS_RSA_SHA256).map(|key| key.serialize_pem()));
        let pem = match fs::read_to_string(path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let pem = NEW.clone().context("make the key of tokens")?;
                let mut options = fs::OpenOptions::new();
                let file = options.write(true).create_new(true).mode(0o600).open(path);
                file.and_then(|mut file| std::io::Write::write_all(&mut file, pem.as_bytes()))
                    .with_context(|| format!("write {}", path.display()))?;
                pem
            }
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let encoding = EncodingKey::from_rsa_pem(pem.as_bytes()).context("read the key of tokens")?;
        let mut public = Jwk::from_encoding_key(&encoding, Algorithm::RS256).context("read the key of tokens")?;
        public.common.key_id = Some(public.thumbprint(ThumbprintHash::SHA256).context("name the key of tokens")?);
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let decoding = DecodingKey::from_jwk(&public).context("read the key of tokens")?;
        Ok(Self { encoding, decoding, public })
    }

    /// What `/openid/v1/jwks` answers.
    pub(super) fn key_set(&self) -> Value {
        json!({"keys": [self.public]})
    }

    /// Signs the claims of a token.
    pub(super) fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let header = Header { typ: None, kid: self.public.common.key_id.clone(), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, claims, &self.encoding).context("sign a token")
    }

    /// The claims of a token that this key signed for the API server and whose time has come and not passed.
    pub(super) fn read(&self, token: &str) -> Option<Value> {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[ISSUER]);
        validation.validate_nbf = true;
        jsonwebtoken::decode(token, &self.decoding, &validation).ok().map(|read| read.claims)
    }
}

/// What `/.well-known/openid-configuration` answers at a host.
pub(super) fn configuration(host: &str) -> Value {
    json!({
        "issuer": ISSUER, "jwks_uri": format!("https://{host}/openid/v1/jwks"),
        "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_token_is_good_for_its_audience_and_in_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::load(&folder.path().join("key")).unwrap();
        let now = Timestamp::now().as_second();
        let check = |audience: &str, from: i64, until: i64, good: bool| {
            let claims = json!({"aud": [audience], "nbf": now + from, "exp": now + until});
            let token = signer.sign(&claims).unwrap();
            assert_eq!(signer.read(&token), good.then_some(claims), "{audience} {from} {until}");
        };
        check(ISSUER, 0, 600, true);
        check("deskgrid-pool", 0, 600, false);
        check(ISSUER, -600, -120, false);
        check(ISSUER, 300, 600, false);
        let again = Signer::load(&folder.path().join("key")).unwrap();
        assert_eq!(again.key_set(), signer.key_set());
    }
}

//! Tokens of service accounts: signed, bound to a pod, meant for an audience, and checked as the API server does
//! (kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin, "Bound service account tokens").

use std::{fs, os::unix::fs::OpenOptionsExt as _, path::Path, sync::LazyLock};

use anyhow::Context as _;
use jiff::Timestamp;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    jwk::{Jwk, PublicKeyUse, ThumbprintHash},
};
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    kinds, names,
    users::User,
    value::{self, text},
};

/// Who signs the tokens, and the audience of those that the API server takes.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Lifetime of the token in a pod's kubeconfig: API servers extend those that a node mounts by itself to a year
/// (`--service-account-extend-token-expiration`).
pub const MOUNTED_SECS: i64 = 365 * 86_400;

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

    fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let header = Header { typ: None, kid: self.public.common.key_id.clone(), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, claims, &self.encoding).context("sign a token")
    }

    /// The claims of a token that this key signed for the API server and whose time has come and not passed.
    fn read(&self, token: &str) -> Option<Value> {
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

impl Cluster {
    /// A token of a service account for `audience`, bound to a pod if there is one.
    ///
    /// Its times are those of this machine, not of the cluster's clock: other processes check them too.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn account_token(
        &self,
        account: &Value,
        pod: Option<&Value>,
        audiences: &Value,
        seconds: i64,
    ) -> anyhow::Result<String> {
        let named = |object: &Value| json!({"name": value::name(object), "uid": value::uid(object)});
        let (namespace, name) = (value::namespace(account), value::name(account));
        let mut bound = json!({"namespace": namespace, "serviceaccount": named(account)});
        if let Some(pod) = pod {
            bound["pod"] = named(pod);
            if let Some(node) = self.store.get(&kinds::NODE, "", text(pod, "/spec/nodeName")) {
                bound["node"] = named(&node);
            }
        }
        let now = Timestamp::now().as_second();
        self.signer.sign(&json!({
            "iss": ISSUER, "sub": format!("system:serviceaccount:{namespace}:{name}"), "aud": audiences,
            "iat": now, "nbf": now, "exp": now + seconds, "jti": names::uid(), "kubernetes.io": bound,
        }))
    }

    /// The service account of a token for the API server; none if it, or the pod that the token is bound to, is gone.
    pub(super) fn account_user(&self, token: &str) -> Option<User> {
        let claims = self.signer.read(token)?;
        let bound = claims.get("kubernetes.io")?;
        let namespace = text(bound, "/namespace");
        for (kind, field) in [(&kinds::SERVICE_ACCOUNT, "serviceaccount"), (&kinds::POD, "pod")] {
            let Some(named) = bound.get(field) else { continue };
            let found = self.store.get(kind, namespace, text(named, "/name"))?;
            if value::uid(&found) != text(named, "/uid") {
                return None;
            }
        }
        Some(User::service_account(namespace, text(bound, "/serviceaccount/name")))
    }
}

#[cfg(test)]
mod tests {
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

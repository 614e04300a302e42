//! Access tokens: made, read, and traded for keys and refresh tokens.
//!
//! A token carries its principal and its expiry under a signature of this cloud, so that nothing needs to be kept and
//! a token survives a restart with the data folder it was made from.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};

use super::{Identity, accounts::Accounts, principal::Principal};
use crate::google::error::{Error, Result};

/// What every token of ours begins with.
const PREFIX: &str = "ya29.local.";
/// Lifetime of an access token, in seconds.
pub const LIFETIME_SECS: i64 = 3600;
/// Longest lifetime of a self-signed token, in seconds, with some room for clocks that differ.
const SELF_SIGNED_MAX_SECS: i64 = 3600 + 600;
/// Refresh token of the operator.
pub const OPERATOR_REFRESH: &str = "1//local-operator";

/// Whether this cloud issued a token, rather than the account that it is of.
pub fn is_issued(token: &str) -> bool {
    token.starts_with(PREFIX)
}

#[derive(Serialize, Deserialize)]
struct Claims {
    principal: Principal,
    exp: i64,
}

/// Claims of a token that a service account signed itself.
#[derive(Debug, Deserialize)]
struct SelfSigned {
    iss: String,
    #[serde(default)]
    sub: Option<String>,
    exp: i64,
    iat: i64,
}

impl Identity {
    /// Seconds of the clock that tokens are measured by.
    pub(super) fn token_time(&self) -> i64 {
        if self.strict_token_expiry { self.clock.now().as_second() } else { jiff::Timestamp::now().as_second() }
    }

    /// An access token for `principal` that is good for `lifetime_secs` seconds.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn token(&self, principal: &Principal, lifetime_secs: i64) -> Result<String> {
        let claims = Claims { principal: principal.clone(), exp: self.token_time() + lifetime_secs };
        let key = EncodingKey::from_secret(&self.secret());
        encode(&Header::new(Algorithm::HS256), &claims, &key)
            .map(|signed| format!("{PREFIX}{signed}"))
            .map_err(|error| Error::internal(format!("Token cannot be signed: {error}")))
    }

    /// A token of the provider of the pool, which says who runs something outside Google Cloud. No API takes it; the
    /// Security Token Service exchanges it.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn subject_token(&self, namespace: &str, account: &str) -> Result<String> {
        let (namespace, account) = (namespace.to_owned(), account.to_owned());
        let token = self.token(&Principal::Kubernetes { namespace, account }, LIFETIME_SECS)?;
        Ok(token.trim_start_matches(PREFIX).to_owned())
    }

    /// An access token for [`Self::subject_token`].
    ///
    /// # Errors
    /// When the provider did not make it.
    pub fn exchange(&self, subject: &str) -> Result<String> {
        match self.principal_of(&format!("{PREFIX}{subject}"))? {
            (principal @ Principal::Kubernetes { .. }, _) => self.token(&principal, LIFETIME_SECS),
            _ => Err(Error::invalid("The given credential is rejected by the attribute condition.")),
        }
    }

    /// Who a bearer token stands for, and how many seconds it is still good for.
    ///
    /// # Errors
    /// 401 for a token that is unknown, expired, or of an account that is gone or disabled.
    pub fn principal_of(&self, token: &str) -> Result<(Principal, i64)> {
        let now = self.token_time();
        let (principal, expiry) = match token.strip_prefix(PREFIX) {
            Some(signed) => {
                let key = DecodingKey::from_secret(&self.secret());
                let claims = decode::<Claims>(signed, &key, &no_checks(Algorithm::HS256))
                    .map_err(|_| Error::unauthenticated())?
                    .claims;
                (claims.principal, claims.exp)
            }
            None => self.read_self_signed(token, now)?,
        };
        if expiry <= now {
            return Err(Error::unauthenticated());
        }
        if let Principal::ServiceAccount { email, uid: Some(uid) } = &principal {
            let state = self.read();
            let usable = state.accounts.get(uid).is_ok_and(|account| !account.disabled && account.email == *email);
            if !usable {
                return Err(Error::unauthenticated());
            }
        }
        Ok((principal, expiry - now))
    }

    /// A token that a service account signed with one of its keys.
    fn read_self_signed(&self, token: &str, now: i64) -> Result<(Principal, i64)> {
        let state = self.read();
        let key = decode_header(token).ok().and_then(|header| header.kid);
        if key.is_some_and(|key| self.young.hides_key(&key, self.clock.now())) {
            return Err(Error::unauthenticated());
        }
        let claims = verify_signed_by_key(&state.accounts, token)?;
        if claims.exp - claims.iat > SELF_SIGNED_MAX_SECS || claims.iat > now + 600 {
            return Err(Error::unauthenticated());
        }
        let account = state.accounts.get(&claims.iss).map_err(|_| Error::unauthenticated())?;
        Ok((Principal::ServiceAccount { email: account.email.clone(), uid: Some(account.uid.clone()) }, claims.exp))
    }

    /// Trades a signed assertion of a service account for an access token.
    ///
    /// # Errors
    /// A 400 with OAuth's `invalid_grant` in its message.
    pub fn trade_assertion(&self, assertion: &str) -> Result<String> {
        let grant = |text: &str| Error::invalid(format!("invalid_grant: {text}"));
        let (principal, expiry) =
            self.read_self_signed(assertion, self.token_time()).map_err(|_| grant("Invalid JWT Signature."))?;
        if expiry <= self.token_time() {
            return Err(grant(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.",
            ));
        }
        let Principal::ServiceAccount { email, .. } = &principal else { return Err(grant("Invalid grant.")) };
        if self.read().accounts.get(email).is_ok_and(|account| account.disabled) {
            return Err(grant("Account has been disabled."));
        }
        self.token(&principal, LIFETIME_SECS)
    }
}

fn verify_signed_by_key(accounts: &Accounts, token: &str) -> Result<SelfSigned> {
    let bad = |_| Error::unauthenticated();
    let header = decode_header(token).map_err(bad)?;
    if header.alg != Algorithm::RS256 {
        return Err(Error::unauthenticated());
    }
    // The issuer is read before the signature is checked, to know whose keys to check it with.
    let unchecked: SelfSigned = jsonwebtoken::dangerous::insecure_decode(token).map_err(bad)?.claims;
    let account = accounts.get(&unchecked.iss).map_err(|_| Error::unauthenticated())?;
    let named = header.kid.as_ref().filter(|desired| !desired.is_empty());
    let keys = account.keys.iter().filter(|(id, _)| named.is_none_or(|desired| desired == *id));
    for (_, key) in keys {
        let Ok(public) = DecodingKey::from_rsa_pem(key.public_pem.as_bytes()) else { continue };
        if let Ok(checked) = decode::<SelfSigned>(token, &public, &no_checks(Algorithm::RS256)) {
            let claims = checked.claims;
            if claims.sub.as_ref().is_none_or(|sub| *sub == claims.iss) {
                return Ok(claims);
            }
        }
    }
    Err(Error::unauthenticated())
}

/// Only the signature is checked by the library; times are checked against our own clock.
fn no_checks(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation
}

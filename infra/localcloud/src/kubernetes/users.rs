//! Who sends a request: bearer tokens and the users behind them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Maps a Google access token to its principal (`user:x`, `serviceAccount:email`).
pub type GoogleUser = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// An authenticated user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
    /// May do everything.
    pub admin: bool,
}

impl User {
    /// An administrator.
    pub fn admin(name: &str) -> Self {
        let groups = vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
        Self { name: name.to_owned(), groups, admin: true }
    }

    /// Another user, as an administrator speaks for one.
    pub fn impersonated(name: &str, mut groups: Vec<String>) -> Self {
        if let Some((namespace, account)) =
            name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
        {
            return Self::service_account(namespace, account);
        }
        groups.push("system:authenticated".to_owned());
        Self { name: name.to_owned(), groups, admin: false }
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ];
        Self { name: format!("system:serviceaccount:{namespace}:{name}"), groups, admin: false }
    }
}

/// The tokens that are good.
pub struct Tokens {
    admin: String,
    minted: Mutex<HashMap<String, User>>,
    google: GoogleUser,
}

impl Tokens {
    /// Tokens with this one for the administrator.
    pub fn new(admin: String, google: GoogleUser) -> Self {
        Self { admin, minted: Mutex::default(), google }
    }

    /// The administrator's token.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// A new token for a service account.
    pub fn mint(&self, namespace: &str, name: &str) -> String {
        let token = random();
        let mut minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        minted.insert(token.clone(), User::service_account(namespace, name));
        token
    }

    /// Ends a token that was minted.
    pub fn revoke(&self, token: &str) {
        self.minted.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    }

    /// The user of a token.
    pub fn user(&self, token: &str) -> Option<User> {
        if token == self.admin {
            return Some(User::admin("admin"));
        }
        if let Some(user) = self.minted.lock().unwrap_or_else(PoisonError::into_inner).get(token) {
            return Some(user.clone());
        }
        let principal = (self.google)(token)?;
        match principal.split_once(':') {
            Some(("serviceAccount", email)) => {
                Some(User { name: email.to_owned(), groups: vec!["system:authenticated".to_owned()], admin: false })
            }
            Some((_, email)) => Some(User::admin(email)),
            None => Some(User::admin(&principal)),
        }
    }
}

/// A token of 32 random bytes, in hexadecimal.
pub fn random() -> String {
    rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

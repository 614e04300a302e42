//! Somebody who has access, and what they may see.

use std::collections::BTreeSet;

use contract::config::{Business, Config};

/// Which businesses somebody may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Businesses {
    /// All of them.
    All,
    /// Only these.
    Some(BTreeSet<String>),
}

impl Businesses {
    /// The businesses of these names; `*` stands for all.
    pub fn from_names(names: impl IntoIterator<Item = String>) -> Self {
        let names: BTreeSet<String> = names.into_iter().collect();
        if names.contains("*") { Self::All } else { Self::Some(names) }
    }
}

/// Somebody who has access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// Name for people and for the audit log: an email, or the name given at login with the token's fingerprint.
    pub name: String,
    /// What they may see.
    pub businesses: Businesses,
    /// Proof that a request to change something comes from a page of this app.
    pub csrf: String,
    /// True for a program that sends its token with each request, which no other site can make a browser do.
    pub is_program: bool,
}

impl Visitor {
    /// Whether they may see this business.
    pub fn may_see(&self, business: &str) -> bool {
        match &self.businesses {
            Businesses::All => true,
            Businesses::Some(names) => names.contains(business),
        }
    }

    /// The businesses of an environment that they may see.
    pub fn businesses_of<'a>(&self, config: &'a Config) -> Vec<&'a Business> {
        config.businesses.values().filter(|business| self.may_see(&business.name)).collect()
    }
}

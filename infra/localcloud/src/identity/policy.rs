//! Policies: what a resource's bindings are, how they are read and replaced, and whether they allow a call.

use std::collections::BTreeSet;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    accounts::Accounts,
    condition,
    principal::{Pool, Principal},
};
use crate::google::error::{Error, Result};

/// Most principals in one policy.
const MEMBERS_MAX: usize = 1500;
/// Etag of a policy that nobody has set yet.
const ETAG_NEW: &str = "ACAB";

/// A policy as it travels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// 1, or 3 with conditions.
    #[serde(skip_serializing_if = "is_zero")]
    pub version: i32,
    /// Bindings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<Binding>,
    /// Base64; empty means "whatever is there".
    #[serde(skip_serializing_if = "String::is_empty")]
    pub etag: String,
    /// Kept and shown, not acted on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audit_configs: Vec<Value>,
}

/// Members that have a role, under a condition if there is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Binding {
    /// Role.
    pub role: String,
    /// Members.
    pub members: Vec<String>,
    /// Condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
}

/// A condition of a binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Longer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// CEL.
    pub expression: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// A policy as it is kept: members remember which service account they were bound to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    bindings: Vec<KeptBinding>,
    revision: u64,
    audit_configs: Vec<Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeptBinding {
    role: String,
    members: Vec<Member>,
    condition: Option<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    name: String,
    uid: Option<String>,
}

/// How a service answers a stale etag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// 409 ABORTED, most services.
    Aborted,
    /// 412 `conditionNotMet`, Cloud Storage.
    ConditionNotMet,
}

impl Kept {
    /// A policy that was there from the start.
    pub fn initial(bindings: &[(&str, &[String])]) -> Self {
        let bindings = bindings
            .iter()
            .map(|(role, members)| KeptBinding {
                role: (*role).to_owned(),
                members: members.iter().map(|name| Member { name: name.clone(), uid: None }).collect(),
                condition: None,
            })
            .collect();
        Self { bindings, revision: 0, audit_configs: Vec::new() }
    }

    /// The etag now.
    pub fn etag(&self) -> String {
        if self.revision == 0 {
            return ETAG_NEW.to_owned();
        }
        let mut bytes = self.revision.to_be_bytes();
        bytes[0] = 7;
        BASE64_STANDARD.encode(bytes)
    }

    fn has_conditions(&self) -> bool {
        self.bindings.iter().any(|binding| binding.condition.is_some())
    }

    /// The policy as a reader who asked for `version` sees it: below 3, conditional bindings show only a mangled role.
    pub fn read(&self, version: i32, accounts: &Accounts) -> Policy {
        let bindings = self.bindings.iter().map(|binding| {
            let members = binding.members.iter().map(|member| member.shown(accounts)).collect();
            match &binding.condition {
                Some(condition) if version < 3 => Binding {
                    role: format!(
                        "{}_withcond_{}",
                        binding.role,
                        &format!("{:x}", md5::compute(&condition.expression))[..20]
                    ),
                    members,
                    condition: None,
                },
                condition => Binding { role: binding.role.clone(), members, condition: condition.clone() },
            }
        });
        Policy {
            version: match (self.has_conditions() && version >= 3, self.revision) {
                (true, _) => 3,
                (false, 0) if self.bindings.is_empty() => 0,
                _ => 1,
            },
            bindings: bindings.collect(),
            etag: self.etag(),
            audit_configs: self.audit_configs.clone(),
        }
    }

    /// Replaces the policy. `role_exists` says which roles may be granted.
    ///
    /// # Errors
    /// 409 or 412 for a stale etag; 400 for what Google refuses: unknown roles and accounts, conditions without
    /// version 3, conditions that do not parse, a live member beside its own deleted form.
    pub fn write(
        &mut self,
        desired: Policy,
        revision: u64,
        stale: Stale,
        accounts: &Accounts,
        role_exists: impl Fn(&str) -> bool,
    ) -> Result<()> {
        if !desired.etag.is_empty() && !is_same_etag(&desired.etag, &self.etag()) {
            return Err(match stale {
                Stale::Aborted => Error::aborted(
                    "There were concurrent policy changes. Please retry the whole read-modify-write with exponential \
                     backoff.",
                ),
                Stale::ConditionNotMet => Error::condition_not_met(),
            });
        }
        if !matches!(desired.version, 0 | 1 | 3) {
            return Err(Error::invalid("Invalid policy version. Valid values are 0, 1 and 3."));
        }
        if self.has_conditions() && desired.version < 3 && !desired.etag.is_empty() {
            return Err(Error::invalid(
                "The policy has conditional role bindings; set its version to 3 to change it. Specifying a policy \
                 without an etag overwrites them.",
            ));
        }
        let mut bindings: Vec<KeptBinding> = Vec::new();
        for binding in desired.bindings {
            if binding.condition.is_some() && desired.version != 3 {
                return Err(Error::invalid(
                    "Policies with conditional role bindings must set the policy version to 3.",
                ));
            }
            add(&mut bindings, binding, accounts, &role_exists)?;
        }
        refuse_twins(&bindings, accounts)?;
        if bindings.iter().map(|binding| binding.members.len()).sum::<usize>() > MEMBERS_MAX {
            return Err(Error::invalid(format!(
                "The number of members in the policy exceeds the maximum allowed: {MEMBERS_MAX}."
            )));
        }
        *self = Self { bindings, revision, audit_configs: desired.audit_configs };
        Ok(())
    }

    /// Every binding of `principal` whose condition holds: its role and the condition.
    pub fn bindings_of<'a>(
        &'a self,
        principal: &'a Principal,
        pool: &'a Pool,
        context: &'a condition::Context<'a>,
        holds_basic: &'a dyn Fn(&str) -> bool,
    ) -> impl Iterator<Item = (&'a str, Option<&'a Condition>)> {
        self.bindings
            .iter()
            .filter(move |binding| {
                let is_member = binding.members.iter().any(|member| {
                    let convenience = [
                        ("projectOwner:", "roles/owner"),
                        ("projectEditor:", "roles/editor"),
                        ("projectViewer:", "roles/viewer"),
                    ];
                    principal.is(&member.name, member.uid.as_deref(), pool)
                        || convenience.iter().any(|(prefix, role)| {
                            member.name.strip_prefix(prefix).is_some_and(|project| project == pool.project)
                                && holds_basic(role)
                        })
                });
                is_member
                    && binding.condition.as_ref().is_none_or(|condition| {
                        condition::parse(&condition.expression).is_ok_and(|expression| expression.holds(context))
                    })
            })
            .map(|binding| (binding.role.as_str(), binding.condition.as_ref()))
    }
}

impl Member {
    /// The member as it is shown: bound to an account that is gone, it has its deleted form.
    fn shown(&self, accounts: &Accounts) -> String {
        match &self.uid {
            Some(uid) if !accounts.is_live(uid) => format!("deleted:{}?uid={uid}", self.name),
            _ => self.name.clone(),
        }
    }
}

fn add(
    bindings: &mut Vec<KeptBinding>,
    binding: Binding,
    accounts: &Accounts,
    role_exists: impl Fn(&str) -> bool,
) -> Result<()> {
    if !role_exists(&binding.role) {
        return Err(Error::invalid(format!("Role {} is not supported for this resource.", binding.role)));
    }
    if let Some(condition) = &binding.condition {
        if condition.title.is_empty() {
            return Err(Error::invalid("The condition of a binding must have a title."));
        }
        if let Err(problem) = condition::parse(&condition.expression) {
            return Err(Error::invalid(format!("Condition expression compilation failed. Errors: {problem}.")));
        }
    }
    let mut members = Vec::new();
    for name in binding.members {
        let member = resolve(&name, accounts)?;
        if !members.contains(&member) {
            members.push(member);
        }
    }
    if members.is_empty() {
        return Ok(());
    }
    let same = bindings.iter_mut().find(|kept| kept.role == binding.role && kept.condition == binding.condition);
    match same {
        Some(kept) => {
            members.retain(|member| !kept.members.contains(member));
            kept.members.extend(members);
        }
        None => bindings.push(KeptBinding { role: binding.role, members, condition: binding.condition }),
    }
    Ok(())
}

/// Whether two etags are the same bytes: the field is of the type `bytes`, and clients in JSON may write it in either
/// alphabet of base64 (<https://protobuf.dev/programming-guides/json/>), as gcloud does.
pub(super) fn is_same_etag(sent: &str, current: &str) -> bool {
    let standard = |text: &str| text.trim_end_matches('=').replace('-', "+").replace('_', "/");
    standard(sent) == standard(current)
}

/// Finds out which account a member means now.
fn resolve(name: &str, accounts: &Accounts) -> Result<Member> {
    if let Some(rest) = name.strip_prefix("deleted:") {
        let Some((inner, uid)) = rest.split_once("?uid=") else {
            return Err(Error::invalid(format!("Invalid member: {name}. Deleted members need ?uid=.")));
        };
        return Ok(Member { name: inner.to_owned(), uid: Some(uid.to_owned()) });
    }
    if matches!(name, "allUsers" | "allAuthenticatedUsers") {
        return Ok(Member { name: name.to_owned(), uid: None });
    }
    let known = ["user:", "serviceAccount:", "group:", "domain:", "principal://", "principalSet://"]
        .iter()
        .chain(&["projectOwner:", "projectEditor:", "projectViewer:"])
        .any(|prefix| name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()));
    if !known {
        return Err(Error::invalid(format!(
            "The member {name} is of an unknown type. Please set a valid type prefix for the member."
        )));
    }
    let Some(email) = name.strip_prefix("serviceAccount:").filter(|email| !email.contains('[')) else {
        return Ok(Member { name: name.to_owned(), uid: None });
    };
    let email = email.to_ascii_lowercase();
    match accounts.uid_of(&email) {
        Some(uid) => Ok(Member { name: format!("serviceAccount:{email}"), uid: Some(uid.to_owned()) }),
        None if accounts.is_ours(&email) || !accounts.has_agent(&email) => {
            Err(Error::invalid(format!("Service account {email} does not exist.")).with_reason("badRequest"))
        }
        None => Ok(Member { name: format!("serviceAccount:{email}"), uid: None }),
    }
}

/// Google refuses a policy that grants to an account beside the deleted account of the same email.
fn refuse_twins(bindings: &[KeptBinding], accounts: &Accounts) -> Result<()> {
    let bound: BTreeSet<(&str, bool)> = bindings
        .iter()
        .flat_map(|binding| &binding.members)
        .filter_map(|member| member.uid.as_ref().map(|uid| (member.name.as_str(), accounts.is_live(uid))))
        .collect();
    match bound.iter().find(|(name, live)| *live && bound.contains(&(name, false))) {
        Some((name, _)) => Err(Error::invalid(format!(
            "The policy has both {name} and a deleted member of the same name. Remove the deleted member first."
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_the_same_in_both_alphabets_of_base64() {
        let accounts = Accounts::default();
        // Bytes whose standard form holds `/` and `+`.
        let mut policy = Kept { revision: 0x00ff_feff_fbff_fefb, ..Kept::default() };
        let etag = policy.etag();
        assert!(etag.contains('/') && etag.contains('+'), "{etag}");
        let desired = |etag: String| Policy { etag, version: 3, ..Policy::default() };
        let web_safe = etag.replace('+', "-").replace('/', "_");
        let written = policy.write(desired(web_safe), 9, Stale::Aborted, &accounts, |_| true);
        assert!(written.is_ok(), "{written:?}");
        let stale = policy.write(desired(etag), 10, Stale::Aborted, &accounts, |_| true);
        assert!(stale.is_err(), "the etag of the revision before is stale");
    }
}

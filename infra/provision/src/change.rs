//! One step of a plan: what to do about one resource, and the differences that are the reason.

use std::collections::BTreeSet;

use contract::labels;
use serde::Serialize;
use serde_json::Value;

use crate::{
    observation::Live,
    resource::{Grant, Id, Resource},
};

/// What to do about one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "action")]
pub enum Action {
    /// Make it.
    Create,
    /// Change it.
    Update,
    /// Delete it and create it again, since it cannot be changed in place.
    Replace,
    /// Take over what was not ours, and change it.
    Adopt,
    /// It is being made; wait until it is.
    Await,
    /// Delete what is ours and not in the environment file.
    Delete,
    /// Take our grants away.
    Revoke,
    /// It stays although the rest goes.
    Kept {
        /// Why.
        reason: String,
    },
    /// Somebody else's resource has the name: stop.
    Foreign {
        /// By what it seems somebody else's.
        owner: String,
    },
    /// Somebody else should have made or changed it (`manage` is `verify`): stop.
    Missing,
    /// It cannot become what it should be: stop.
    Blocked {
        /// The code of the cause.
        code: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// It is ours but not in the environment file, and stays.
    Extra,
    /// It is as it should be.
    Nothing,
}

/// One field, or one grant, that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Path of the field with dots; of a grant, the role and the condition's title.
    pub field: String,
    /// What is; nothing when it is not there.
    pub live: Option<Value>,
    /// What should be; nothing when it goes.
    #[serde(rename = "wanted")]
    pub desired: Option<Value>,
}

/// One resource with what to do about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Resource.
    #[serde(flatten)]
    pub id: Id,
    /// Business it is for; none for the whole environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub business: Option<String>,
    /// What to do.
    #[serde(flatten)]
    pub action: Action,
    /// What differs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// The resource as it should be; nothing for one that should not be.
    #[serde(skip)]
    pub resource: Option<Resource>,
    /// The resource as it is.
    #[serde(skip)]
    pub live: Option<Value>,
    /// Grants of ours that are taken out of the policy, beside what the resource needs.
    #[serde(skip)]
    pub stale: BTreeSet<Grant>,
}

impl Change {
    /// What to do about a resource that the environment names.
    pub(crate) fn for_resource(
        resource: &Resource,
        live: Option<&Live>,
        action: Action,
        differences: Vec<Difference>,
    ) -> Self {
        let live = match live {
            Some(Live::Present(live)) => Some(live.clone()),
            _ => None,
        };
        let Resource { id, business, .. } = resource;
        Self {
            id: id.clone(),
            business: business.clone(),
            action,
            differences,
            resource: Some(resource.clone()),
            live,
            stale: BTreeSet::new(),
        }
    }

    /// What to do about a resource of ours that the environment does not name.
    pub(crate) fn for_extra(id: &Id, live: &Value, action: Action) -> Self {
        let business = id.rules().mark.label(live, labels::BUSINESS).map(str::to_owned);
        Self {
            id: id.clone(),
            business,
            action,
            differences: vec![],
            resource: None,
            live: Some(live.clone()),
            stale: BTreeSet::new(),
        }
    }
}

impl Action {
    /// Whether it changes the cloud.
    pub fn is_change(&self) -> bool {
        matches!(
            self,
            Self::Create | Self::Update | Self::Replace | Self::Adopt | Self::Await | Self::Delete | Self::Revoke
        )
    }

    /// Whether it stops the plan.
    pub fn is_blocker(&self) -> bool {
        self.code().is_some()
    }

    /// The code of what stops the plan; nothing when it does not.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Foreign { .. } => Some("foreign"),
            Self::Missing => Some("missing"),
            Self::Blocked { code, .. } => Some(code),
            Self::Create
            | Self::Update
            | Self::Replace
            | Self::Adopt
            | Self::Await
            | Self::Delete
            | Self::Revoke
            | Self::Kept { .. }
            | Self::Extra
            | Self::Nothing => None,
        }
    }
}

/// The fields of `desired` that `live` does not have like that.
pub(crate) fn field_differences(desired: &Value, live: &Value) -> Vec<Difference> {
    let mut differences = Vec::new();
    walk("", desired, live, false, &mut differences);
    differences
}

/// As [`field_differences`], where Google adds fields to the items of lists too.
pub(crate) fn item_differences(desired: &Value, live: &Value) -> Vec<Difference> {
    let mut differences = Vec::new();
    walk("", desired, live, true, &mut differences);
    differences
}

fn walk(path: &str, desired: &Value, live: &Value, in_items: bool, differences: &mut Vec<Difference>) {
    let same = match desired {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(&path, value, live.get(key).unwrap_or(&Value::Null), in_items, differences);
            }
            true
        }
        // Without fields it only has to exist.
        Value::Object(_) if path.is_empty() => true,
        // Google leaves out what is false or zero, and an empty message must be there to count.
        Value::Number(number) if number.as_f64() == Some(0.0) => live.is_null() || live == desired,
        Value::Bool(false) => live.is_null() || live == desired,
        Value::Array(items) if items.is_empty() => live.is_null() || live == desired,
        Value::Array(items) if in_items && live.as_array().is_some_and(|live| live.len() == items.len()) => {
            for (index, item) in items.iter().enumerate() {
                walk(&format!("{path}.{index}"), item, &live[index], in_items, differences);
            }
            true
        }
        _ => live == desired,
    };
    if !same {
        differences.push(Difference {
            field: path.to_owned(),
            live: Some(live.clone()).filter(|live| !live.is_null()),
            desired: Some(desired.clone()),
        });
    }
}

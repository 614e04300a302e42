//! The owner of a resource, as its labels show it, or its description if the kind has no labels.

use contract::labels as names;
use serde_json::{Value, json};

use crate::environment::{Business, Environment};

/// How the description of the account of a web app ends.
pub(super) const WEB_APP: &str = "web app";

/// How a resource shows that it is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Labels, at this JSON pointer.
    Labels(&'static str),
    /// The beginning of the description.
    Description,
    /// The beginning of the description, without the environment: all environments of a project share it.
    SharedDescription,
    /// It has no owner of its own.
    Nothing,
}

/// Whose a live resource is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This environment's.
    Ours,
    /// Somebody else's; the text is the evidence.
    Other(String),
}

impl Mark {
    /// Whose a live resource is, seen from the environment `environment`.
    pub(crate) fn owner(self, live: &Value, environment: &str) -> Owner {
        let description = live["description"].as_str();
        let is_ours = match self {
            Self::Labels(_) => self.environment(live).as_deref() == Some(environment),
            Self::Description => description.is_some_and(|text| text.starts_with(&mark(environment))),
            Self::SharedDescription => description.is_some_and(|text| text.starts_with(&shared_mark())),
            Self::Nothing => true,
        };
        if is_ours { Owner::Ours } else { Owner::Other(self.evidence(live)) }
    }

    /// The environment that a live resource says it is of.
    pub(crate) fn environment(self, live: &Value) -> Option<String> {
        let name = match self {
            Self::Labels(_) => self
                .label(live, names::GOOGLE_ENVIRONMENT)
                .filter(|_| self.label(live, names::GOOGLE_MANAGED_BY) == Some(names::MANAGED_BY_DESKGRID)),
            Self::Description => {
                let start = mark("");
                let rest =
                    live["description"].as_str().and_then(|text| text.strip_prefix(start.trim_end_matches(": ")));
                rest.and_then(|rest| rest.split(": ").next())
            }
            Self::SharedDescription | Self::Nothing => None,
        };
        name.filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// The namespace in the cluster of its environment that a live resource is for, as far as it shows: a business has
    /// one of its own name unless its environment file says otherwise.
    pub(crate) fn namespace(self, live: &Value) -> Option<String> {
        match self {
            Self::Labels(_) => self.label(live, names::BUSINESS).map(str::to_owned),
            Self::Description => {
                live["description"].as_str()?.ends_with(WEB_APP).then(|| contract::names::WEB_NAMESPACE.to_owned())
            }
            Self::SharedDescription | Self::Nothing => None,
        }
    }

    /// The value of a label, of a kind that has labels.
    pub(crate) fn label<'a>(self, live: &'a Value, key: &str) -> Option<&'a str> {
        match self {
            Self::Labels(pointer) => live.pointer(pointer)?[key].as_str(),
            Self::Description | Self::SharedDescription | Self::Nothing => None,
        }
    }

    fn evidence(self, live: &Value) -> String {
        let labels = match self {
            Self::Labels(pointer) => live.pointer(pointer),
            Self::Description | Self::SharedDescription | Self::Nothing => None,
        };
        let labels: Vec<String> = labels
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
            .collect();
        match (labels.is_empty(), live["description"].as_str().filter(|text| !text.is_empty())) {
            (false, _) => format!("its labels are {}", labels.join(", ")),
            (true, Some(description)) => format!("its description is {description:?}"),
            (true, None) => "it has no label or description that says whose".to_owned(),
        }
    }
}

/// The labels of a resource of an environment, and of a business.
pub(crate) fn labels(environment: &Environment, business: Option<&Business>) -> Value {
    let mut all = environment.labels.clone();
    all.insert(names::GOOGLE_MANAGED_BY.to_owned(), names::MANAGED_BY_DESKGRID.to_owned());
    all.insert(names::GOOGLE_ENVIRONMENT.to_owned(), environment.name.clone());
    if let Some(business) = business {
        all.insert(names::BUSINESS.to_owned(), business.name.clone());
    }
    json!(all)
}

/// The description of what cannot have labels; ends with its purpose.
pub(crate) fn description(environment: &str, purpose: &str) -> String {
    format!("{}{purpose}", mark(environment))
}

/// The description of what all environments of a project share.
pub(super) fn shared_description(purpose: &str) -> String {
    format!("{}: {purpose}", shared_mark())
}

fn mark(environment: &str) -> String {
    format!("{} {}={environment}: ", shared_mark(), names::GOOGLE_ENVIRONMENT)
}

fn shared_mark() -> String {
    format!("{}={}", names::GOOGLE_MANAGED_BY, names::MANAGED_BY_DESKGRID)
}

//! Label and field selectors of lists and watches.

use serde_json::Value;

use super::{
    failure::{Answer, Failure},
    kinds::{self, Kind},
    value,
};

/// Which objects a list or watch is about.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// Reads the `labelSelector` and `fieldSelector` parameters.
    ///
    /// # Errors
    /// 400 for a selector that cannot be read, or a field that the kind cannot be selected by.
    pub fn parse(kind: &Kind, labels: &str, fields: &str) -> Answer<Self> {
        Ok(Self { labels: parse_labels(labels)?, fields: parse_fields(kind, fields)? })
    }

    /// Whether the object is selected.
    pub fn takes(&self, kind: &Kind, object: &Value) -> bool {
        self.fields.iter().all(|(field, equal, desired)| (field_of(kind, object, field) == *desired) == *equal)
            && self.labels.iter().all(|requirement| {
                let find = |key: &str| object.get("metadata").and_then(|m| m.get("labels")?.get(key)?.as_str());
                requirement.holds(find)
            })
    }

    /// The name that a selector by `metadata.name` asks for, so that one object is looked up instead of all.
    pub fn only_name(&self) -> Option<&str> {
        let named = self.fields.iter().find(|(field, equal, _)| field == "metadata.name" && *equal);
        named.map(|(_, _, name)| name.as_str())
    }
}

impl Requirement {
    fn holds<'a>(&self, find: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::In(key, values) => find(key).is_some_and(|have| values.iter().any(|value| value == have)),
            Self::NotIn(key, values) => find(key).is_none_or(|have| values.iter().all(|value| value != have)),
            Self::Exists(key) => find(key).is_some(),
            Self::Absent(key) => find(key).is_none(),
        }
    }
}

/// Whether a `LabelSelector` object (matchLabels, matchExpressions) takes these labels. An empty one takes all.
pub fn matches(selector: &Value, labels: Option<&Value>) -> bool {
    let find = |key: &str| labels.and_then(|labels| labels.get(key)?.as_str());
    value::entries(selector, "/matchLabels").all(|(key, desired)| find(key) == Some(desired))
        && value::items(selector, "/matchExpressions").iter().all(|expression| {
            let key = value::text(expression, "/key").to_owned();
            let values = value::items(expression, "/values").iter().filter_map(Value::as_str).map(str::to_owned);
            match value::text(expression, "/operator") {
                "In" => Requirement::In(key, values.collect()).holds(find),
                "NotIn" => Requirement::NotIn(key, values.collect()).holds(find),
                "Exists" => Requirement::Exists(key).holds(find),
                "DoesNotExist" => Requirement::Absent(key).holds(find),
                _ => false,
            }
        })
}

fn parse_labels(text: &str) -> Answer<Vec<Requirement>> {
    let wrong = || Failure::bad_request(format!("unable to parse requirement: invalid label selector {text:?}"));
    split_outside_parentheses(text)
        .into_iter()
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            if let Some((key, list)) = part.split_once('(') {
                let list = list.trim().strip_suffix(')').ok_or_else(wrong)?;
                let values: Vec<_> = list.split(',').map(|value| value.trim().to_owned()).collect();
                let mut words = key.split_whitespace();
                let (key, operator, rest) = (words.next(), words.next(), words.next());
                return match (key, operator, rest) {
                    (Some(key), Some("in"), None) => Ok(Requirement::In(key.to_owned(), values)),
                    (Some(key), Some("notin"), None) => Ok(Requirement::NotIn(key.to_owned(), values)),
                    _ => Err(wrong()),
                };
            }
            let requirement = if let Some((key, value)) = part.split_once("!=") {
                Requirement::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()])
            } else if let Some((key, value)) = part.split_once('=') {
                let value = value.strip_prefix('=').unwrap_or(value);
                Requirement::In(key.trim().to_owned(), vec![value.trim().to_owned()])
            } else if let Some(key) = part.strip_prefix('!') {
                Requirement::Absent(key.trim().to_owned())
            } else {
                Requirement::Exists(part.to_owned())
            };
            let (Requirement::In(key, _)
            | Requirement::NotIn(key, _)
            | Requirement::Exists(key)
            | Requirement::Absent(key)) = &requirement;
            if key.is_empty() || key.contains(char::is_whitespace) { Err(wrong()) } else { Ok(requirement) }
        })
        .collect()
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_u32);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_fields(kind: &Kind, text: &str) -> Answer<Vec<(String, bool, String)>> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (field, equal, desired) = if let Some((field, desired)) = part.split_once("!=") {
                (field, false, desired)
            } else if let Some((field, desired)) = part.split_once('=') {
                (field, true, desired.strip_prefix('=').unwrap_or(desired))
            } else {
                return Err(Failure::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'")));
            };
            if !selectable(kind, field) {
                return Err(Failure::bad_request(format!("field label not supported: {field}")));
            }
            Ok((field.to_owned(), equal, desired.to_owned()))
        })
        .collect()
}

fn selectable(kind: &Kind, field: &str) -> bool {
    let known: &[&str] = if kind == &kinds::POD {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    } else if kind == &kinds::JOB {
        &["status.successful"]
    } else if kind == &kinds::EVENT {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    } else if kind == &kinds::SECRET {
        &["type"]
    } else if kind == &kinds::NAMESPACE {
        &["status.phase"]
    } else if kind == &kinds::NODE {
        &["spec.unschedulable"]
    } else if kind == &kinds::REPLICA_SET {
        &["status.replicas"]
    } else {
        &[]
    };
    matches!(field, "metadata.name" | "metadata.namespace") || known.contains(&field)
}

fn field_of(kind: &Kind, object: &Value, field: &str) -> String {
    let plain = |found: Option<&Value>| match found {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    match field {
        "status.successful" if kind == &kinds::JOB => {
            object.pointer("/status/succeeded").map_or_else(|| "0".to_owned(), ToString::to_string)
        }
        "source" if kind == &kinds::EVENT => plain(object.pointer("/source/component")),
        "spec.unschedulable" | "spec.hostNetwork" => {
            value::truth(object, &format!("/{}", field.replace('.', "/"))).to_string()
        }
        _ => plain(object.pointer(&format!("/{}", field.replace('.', "/")))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(labels: &str, fields: &str) -> bool {
        let job =
            json!({"metadata": {"name": "a", "labels": {"app": "engine", "tier": "x"}}, "status": {"succeeded": 1}});
        Selector::parse(&kinds::JOB, labels, fields).unwrap().takes(&kinds::JOB, &job)
    }

    #[test]
    fn label_selectors() {
        for yes in
            ["", "app", "app=engine", "app==engine", "app in (a, engine),tier", "tier notin (y)", "!other", "other!=1"]
        {
            assert!(check(yes, ""), "{yes}");
        }
        for no in ["other", "app=x", "app in (a,b)", "tier notin (x)", "!app", "app!=engine"] {
            assert!(!check(no, ""), "{no}");
        }
        for wrong in ["app in engine", "app of (x)", "a b=c", "=x"] {
            assert!(Selector::parse(&kinds::JOB, wrong, "").is_err(), "{wrong}");
        }
    }

    #[test]
    fn field_selectors() {
        assert!(check("", "status.successful=1,metadata.name=a"));
        assert!(!check("", "status.successful!=1"));
        assert_eq!(
            Selector::parse(&kinds::JOB, "", "spec.x=1").unwrap_err().message,
            "field label not supported: spec.x"
        );
    }
}

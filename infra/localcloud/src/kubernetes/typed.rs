//! Reading an object as its type: wrong types are refused, unknown fields are found and dropped.

use serde_json::Value;

use super::{
    failure::{Answer, Failure},
    kinds::Kind,
};

/// What is done about unknown fields (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    /// Refused.
    Strict,
    /// Dropped, with a warning.
    #[default]
    Warn,
    /// Dropped.
    Ignore,
}

impl Validation {
    /// Reads the query parameter.
    ///
    /// # Errors
    /// 400 for a value that is none of the three.
    pub fn parse(text: &str) -> Answer<Self> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Strict" => Ok(Self::Strict),
            "Ignore" => Ok(Self::Ignore),
            other => Err(Failure::bad_request(format!(
                "invalid fieldValidation: {other:?}: must be one of Ignore, Warn, Strict"
            ))),
        }
    }
}

/// The object with nothing in it that its type does not have, and a warning for each field that was dropped.
///
/// # Errors
/// 400 for a value of the wrong type, and for unknown fields when `validation` is strict.
pub fn read(kind: &Kind, mut object: Value, validation: Validation) -> Answer<(Value, Vec<String>)> {
    quantities(&mut object);
    let handled = |why: &str| {
        let (kind, version) = (kind.kind, kind.version);
        Failure::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
    };
    let typed = (kind.round_trip)(&object).map_err(|error| handled(&format!("json: {error}")))?;
    let mut unknown = Vec::new();
    if validation != Validation::Ignore {
        compare(&object, &typed, "", &mut unknown);
    }
    let warnings: Vec<_> = unknown.iter().map(|field| format!("unknown field {field:?}")).collect();
    if validation == Validation::Strict && !warnings.is_empty() {
        return Err(handled(&format!("strict decoding error: {}", warnings.join(", "))));
    }
    Ok((typed, warnings))
}

/// Quantities may be written as numbers.
fn quantities(object: &mut Value) {
    match object {
        Value::Object(fields) => {
            for (field, value) in fields {
                if matches!(field.as_str(), "limits" | "requests" | "hard" | "capacity" | "allocatable" | "used") {
                    for amount in value.as_object_mut().into_iter().flat_map(|amounts| amounts.values_mut()) {
                        if amount.is_number() {
                            *amount = Value::String(amount.to_string());
                        }
                    }
                } else if field == "sizeLimit" && value.is_number() {
                    *value = Value::String(value.to_string());
                } else if field != "data" && field != "stringData" {
                    quantities(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(quantities),
        _ => {}
    }
}

fn compare(given: &Value, typed: &Value, path: &str, unknown: &mut Vec<String>) {
    match (given, typed) {
        (Value::Object(given), Value::Object(typed)) => {
            for (field, value) in given {
                let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
                match typed.get(field) {
                    Some(typed) => compare(value, typed, &path, unknown),
                    None if value.is_null() => {}
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(given), Value::Array(typed)) => {
            for (index, (given, typed)) in given.iter().zip(typed).enumerate() {
                compare(given, typed, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

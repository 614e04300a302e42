//! How errors show what was found, and guess what was meant.

use super::json::Value;

/// Most characters of a wrong value that an error shows.
const SHOWN_MAX: usize = 40;

/// The name that was probably meant.
pub(super) fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let found = truncated(found);
    known
        .map(|name| (strsim::damerau_levenshtein(name, &found), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .map(|(_, name)| name)
}

/// A value as an error shows it.
pub(super) fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(raw) => truncated(raw),
        Value::Text(text) => format!("{:?}", truncated(text)),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "an object".to_owned(),
    }
}

/// A text as an error shows it.
pub(super) fn truncated(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

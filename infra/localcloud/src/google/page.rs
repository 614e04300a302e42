//! Paging through a list: size and token in, a page and the next token out.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::error::{Error, Result};

/// What the caller asked for.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// Wanted size; 0 means the service chooses.
    pub size: i64,
    /// Token of the page, empty for the first.
    pub token: String,
}

impl PageRequest {
    /// Number of items on the page, with the service's default and most.
    ///
    /// # Errors
    /// 400 for a negative size.
    pub fn limit(&self, max: usize) -> Result<usize> {
        match usize::try_from(self.size) {
            Ok(0) => Ok(max),
            Ok(size) => Ok(size.min(max)),
            Err(_) => Err(Error::invalid("The page size must not be negative.")),
        }
    }

    /// Key after which the page starts.
    ///
    /// # Errors
    /// 400 for a token that is not ours.
    pub fn after(&self) -> Result<Option<String>> {
        if self.token.is_empty() {
            return Ok(None);
        }
        let bad = || Error::invalid("Invalid page token.");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&self.token).map_err(|_| bad())?;
        String::from_utf8(bytes).map(Some).map_err(|_| bad())
    }
}

/// Token for the page after `last`.
pub fn token(last: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(last)
}

/// The page of `items`, which are sorted by their key, and the token of the next one (empty at the end).
///
/// # Errors
/// 400 for a bad size or token.
pub fn page<T>(
    items: impl Iterator<Item = (String, T)>,
    request: &PageRequest,
    max: usize,
) -> Result<(Vec<T>, String)> {
    let limit = request.limit(max)?;
    let after = request.after()?;
    let mut taken = Vec::new();
    let mut last = String::new();
    for (key, item) in items {
        if after.as_ref().is_some_and(|after| key <= *after) {
            continue;
        }
        if taken.len() == limit {
            return Ok((taken, token(&last)));
        }
        last = key;
        taken.push(item);
    }
    Ok((taken, String::new()))
}

/// An answer with a page: the items under `field` unless there are none, and the token of the next page, if any.
pub fn answer(field: &str, items: Vec<Value>, next: String) -> Value {
    let mut answer = json!({});
    if !items.is_empty() {
        answer[field] = Value::Array(items);
    }
    if !next.is_empty() {
        answer["nextPageToken"] = json!(next);
    }
    answer
}

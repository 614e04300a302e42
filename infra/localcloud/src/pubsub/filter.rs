//! Subscription filters: which messages of a topic a subscription gets. Only the form that our subscriptions have.

use std::collections::HashMap;

/// A parsed filter: `attributes.KEY = "VALUE"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    key: String,
    value: String,
}

impl Filter {
    /// Parses a filter; an empty one takes every message.
    ///
    /// # Errors
    /// Says what cannot be understood.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let parts = || {
            let (key, value) = text.trim().strip_prefix("attributes.")?.split_once('=')?;
            let value = value.trim().strip_prefix('"')?.strip_suffix('"')?;
            let key = key.trim();
            let is_word = |text: &str| text.chars().all(|c| c.is_alphanumeric() || c == '_');
            (!key.is_empty() && is_word(key) && !value.contains(['"', '\\']))
                .then(|| (key.to_owned(), value.to_owned()))
        };
        let (key, value) =
            parts().ok_or("the laptop cloud knows filters of the form attributes.KEY = \"VALUE\" only")?;
        Ok(Some(Self { key, value }))
    }

    /// True when the filter takes a message with these attributes.
    pub fn matches(&self, attributes: &HashMap<String, String>) -> bool {
        attributes.get(&self.key) == Some(&self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &str, attributes: &[(&str, &str)], expected: Result<bool, ()>) {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let found = Filter::parse(filter).map(|filter| filter.is_none_or(|filter| filter.matches(&attributes)));
        assert_eq!(found.map_err(drop), expected, "{filter}");
    }

    #[test]
    fn a_filter_compares_one_attribute() {
        let priority = [("priority", "true"), ("session", "s-1")];
        check("", &[], Ok(true));
        check("attributes.priority = \"true\"", &priority, Ok(true));
        check("attributes.priority=\"true\"", &[], Ok(false));
        for bad in ["priority = \"true\"", "attributes", "attributes.x", "attributes.x = true", "attributes.x = \""] {
            check(bad, &priority, Err(()));
        }
    }
}

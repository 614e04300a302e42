//! The query of a URL. Ids of ours may hold any character, so they travel there and never in a path.

use std::convert::Infallible;

use axum::{extract::FromRequestParts, http::request::Parts};

/// The parameters of a request, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(pub Vec<(String, String)>);

impl Query {
    /// Reads the text after the question mark.
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first parameter of this name that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(parameter, value)| parameter == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// This query with a parameter set, or taken away when the value is empty, as text.
    pub fn with(&self, name: &str, value: &str) -> String {
        let mut pairs: Vec<(&str, &str)> = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        pairs.retain(|(parameter, value)| *parameter != name && !value.is_empty());
        if !value.is_empty() {
            pairs.push((name, value));
        }
        encode(pairs)
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

/// Parameters as the text after a question mark.
pub fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_id_survives() {
        for id in ["a/b", "../..", "a&b=c?d#e", "ü <script>", "%2e%2e", "+"] {
            let text = encode([("job", id), ("empty", "")]);
            let query = Query::parse(&text);
            assert_eq!((query.get("job"), query.get("empty")), (Some(id), None), "{text}");
            assert_eq!(Query::parse(&query.with("page", "2")).get("job"), Some(id));
            assert_eq!(query.with("job", ""), "");
        }
    }
}

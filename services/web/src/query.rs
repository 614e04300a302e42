//! The query of a URL. Our ids may have any character, so they are in the query and never in a path.

use std::{convert::Infallible, fmt};

use axum::{extract::FromRequestParts, http::request::Parts};

/// The parameters of a request, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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

    /// This query as text, with a parameter set, or removed when the value is empty.
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

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
    }
}

/// A path of this app to redirect to, or the first page: never another site, a login or a stream.
pub fn path_of_ours(path: Option<&str>) -> &str {
    let is_ours = |path: &&str| {
        path.strip_prefix('/').is_some_and(|rest| !rest.starts_with(['/', '\\']))
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
            && !path.starts_with("/log")
            && !path.starts_with("/live")
    };
    path.filter(is_ours).unwrap_or("/")
}

/// Parameters as the text after a question mark.
pub fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_of_ours_is_gone_on_to() {
        assert_eq!(path_of_ours(Some("/jobs?state=failed&q=%20a")), "/jobs?state=failed&q=%20a");
        for bad in ["", "//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nb", "jobs", "/login"] {
            assert_eq!(path_of_ours(Some(bad)), "/", "{bad}");
        }
    }

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

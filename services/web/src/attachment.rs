//! Answers that are downloads.

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters of a name that are encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// A download, under a name that may hold anything (RFC 6266).
pub fn attachment(body: Body, kind: &'static str, name: &str) -> Response {
    let plain: String = name
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || "-_.".contains(character) { character } else { '_' })
        .collect();
    let encoded = utf8_percent_encode(name, ENCODED);
    let disposition = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}");
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_header() {
        let response = attachment(Body::empty(), "text/csv", "ü\"; x=\r\n<b>.csv");
        let text = response.headers()[header::CONTENT_DISPOSITION].to_str().unwrap();
        assert_eq!(
            text,
            "attachment; filename=\"____x____b_.csv\"; filename*=UTF-8''%C3%BC%22%3B%20x%3D%0D%0A%3Cb%3E.csv"
        );
    }
}

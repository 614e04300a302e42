//! The proof in a form with files: it is the first field, so that the guard reads nothing else.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::{Form, Problem, form::CSRF_FIELD};

/// Bytes that the first field may have, with its head.
const MAX_HEAD_BYTES: usize = 4096;

/// The boundary of a form with files; `None` when the request has no such form.
pub(super) fn boundary(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let (media_type, parameters) = kind.split_once(';')?;
    if !media_type.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("boundary="))?;
    Some(boundary.trim_matches('"').to_owned()).filter(|boundary| (1..=70).contains(&boundary.len()))
}

/// The form's first field, if it is the proof; the body is passed on complete.
pub(super) async fn first_field(request: Request, boundary: &str) -> Result<(Request, Form), Problem> {
    let (parts, body) = request.into_parts();
    let mut pieces = body.into_data_stream();
    let (mut head, mut read) = (BytesMut::new(), Vec::<Bytes>::new());
    let form = loop {
        if let Some(value) = value(&head, boundary) {
            break Form(vec![(CSRF_FIELD.to_owned(), value)]);
        }
        if head.len() > MAX_HEAD_BYTES {
            break Form::default();
        }
        match pieces.next().await {
            None => break Form::default(),
            Some(Ok(piece)) => {
                head.extend_from_slice(&piece[..piece.len().min(MAX_HEAD_BYTES + 1)]);
                read.push(piece);
            }
            Some(Err(_)) => return Err(Problem::bad_request("The form is incomplete").next("Send it again.")),
        }
    };
    let whole = futures::stream::iter(read.into_iter().map(Ok)).chain(pieces.map_err(std::io::Error::other));
    Ok((Request::from_parts(parts, Body::from_stream(whole)), form))
}

/// The value of the first field, when that is the proof and has been read to its end.
fn value(head: &[u8], boundary: &str) -> Option<String> {
    let start = format!("--{boundary}\r\n");
    let rest = head.strip_prefix(start.as_bytes())?;
    let text = String::from_utf8_lossy(&rest[..rest.len().min(MAX_HEAD_BYTES)]);
    let (headers, rest) = text.split_once("\r\n\r\n")?;
    let is_proof = headers.lines().any(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with("content-disposition:") && line.split(';').any(|part| part.trim() == "name=\"csrf\"")
    });
    let (value, _) = rest.split_once(&format!("\r\n--{boundary}"))?;
    is_proof.then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "--x7\r\nContent-Disposition: form-data; name=\"csrf\"\r\n\r\nproof\r\n--x7\r\nContent-Disposition: \
                        form-data; name=\"file\"; filename=\"a\"\r\n\r\nbytes\r\n--x7--\r\n";

    async fn check(pieces: Vec<&'static str>, expected: Option<&str>) {
        let whole = pieces.concat();
        let stream = futures::stream::iter(pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece))));
        let request = Request::new(Body::from_stream(stream));
        let (request, form) = first_field(request, "x7").await.unwrap();
        assert_eq!(form.get(CSRF_FIELD), expected, "{whole}");
        let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
        assert_eq!(body, whole.as_bytes(), "the body stays whole");
    }

    #[tokio::test]
    async fn the_proof_is_found_first_in_whatever_pieces() {
        check(vec![FORM], Some("proof")).await;
        check(vec![&FORM[..3], &FORM[3..60], &FORM[60..]], Some("proof")).await;
        check(vec![&FORM[FORM.find("--x7\r\nContent-Disposition: form-data; name=\"file").unwrap()..]], None).await;
        check(vec![&FORM[..50]], None).await;
        check(vec![], None).await;
        check(vec!["--x7\r\n", Box::leak("a".repeat(100_000).into_boxed_str()), "tail"], None).await;
    }

    #[test]
    fn boundaries() {
        let boundary =
            |kind: &str| super::boundary(&HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]));
        assert_eq!(boundary("multipart/form-data; boundary=abc").as_deref(), Some("abc"));
        assert_eq!(boundary("Multipart/Form-Data; charset=utf-8; boundary=\"a b\"").as_deref(), Some("a b"));
        for none in
            ["text/plain", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=a"]
        {
            assert_eq!(boundary(none), None, "{none}");
        }
    }
}

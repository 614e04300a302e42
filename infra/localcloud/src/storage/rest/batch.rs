//! The batch endpoint: many calls in one `multipart/mixed` body.

use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::BodyExt as _;

use crate::{
    google::{
        call::Call,
        error::{Error, Result},
    },
    storage::{Storage, upload::split_parts},
};

/// Most calls of a batch.
const CALLS_MAX: usize = 100;

impl Storage {
    pub(super) async fn batch(&self, call: &Call) -> Result<Response> {
        let parts = split_parts(call.header("content-type").unwrap_or_default(), &call.body)?;
        if parts.is_empty() || parts.len() > CALLS_MAX {
            return Err(Error::invalid(format!("A batch has 1 to {CALLS_MAX} calls.")));
        }
        let boundary = format!("batch_{:016x}", rand::random::<u64>());
        let mut body = BytesMut::new();
        for (headers, part) in parts {
            let response = match read_call(&part, &call.headers) {
                // A batch in a batch would never end.
                Ok(inner) if inner.segments.first().is_some_and(|first| first == "batch") => {
                    Error::invalid("A batch cannot have a batch in it.").to_storage()
                }
                Ok(inner) => self.answer(inner).await,
                Err(error) => error.to_storage(),
            };
            let id = headers.get("content-id").map(|id| match id.strip_prefix('<') {
                Some(rest) => format!("<response-{rest}"),
                None => format!("response-{id}"),
            });
            write_part(&mut body, &boundary, id.as_deref(), response).await;
        }
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        let kind = format!("multipart/mixed; boundary={boundary}");
        Ok((StatusCode::OK, [(header::CONTENT_TYPE, kind)], body.freeze()).into_response())
    }
}

/// A call written out: request line, headers, body.
fn read_call(part: &Bytes, outer: &HeaderMap) -> Result<Call> {
    let bad = || Error::invalid("A part of the batch is not an HTTP call.");
    let crlf = part.windows(4).position(|window| window == b"\r\n\r\n").map(|at| (at, at + 4));
    let lf = part.windows(2).position(|window| window == b"\n\n").map(|at| (at, at + 2));
    let (head_end, body_start) = [crlf, lf].into_iter().flatten().min().unwrap_or((part.len(), part.len()));
    let head = String::from_utf8_lossy(&part[..head_end]).into_owned();
    let mut lines = head.lines();
    let mut request = lines.next().ok_or_else(bad)?.split_whitespace();
    let method = Method::from_bytes(request.next().ok_or_else(bad)?.as_bytes()).map_err(|_| bad())?;
    let uri: Uri = request.next().ok_or_else(bad)?.parse().map_err(|_| bad())?;
    let mut headers = HeaderMap::new();
    if let Some(authorization) = outer.get(header::AUTHORIZATION) {
        headers.insert(header::AUTHORIZATION, authorization.clone());
    }
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.trim()), HeaderValue::from_str(value.trim())) {
            headers.insert(name, value);
        }
    }
    Ok(Call::new(&method, &uri, headers, part.slice(body_start..)))
}

async fn write_part(body: &mut BytesMut, boundary: &str, id: Option<&str>, response: Response) {
    let (parts, inner) = response.into_parts();
    let data = inner.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut head = format!("--{boundary}\r\nContent-Type: application/http\r\n");
    if let Some(id) = id {
        head.push_str(&format!("Content-ID: {id}\r\n"));
    }
    let reason = parts.status.canonical_reason().unwrap_or_default();
    head.push_str(&format!("\r\nHTTP/1.1 {} {reason}\r\n", parts.status.as_u16()));
    for (name, value) in &parts.headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", data.len()));
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(&data);
    body.extend_from_slice(b"\r\n");
}

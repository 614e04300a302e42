//! Data in and out over HTTP: uploads of the three kinds, downloads with ranges, decompressed where Google does so.

use std::{convert::Infallible, io::Read as _};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::objects::{destination, source};
use crate::{
    google::{
        call::{Call, ok},
        error::{Error, Result},
    },
    identity::{principal::Principal, rest::no_route},
    storage::{
        Storage,
        object::Object,
        upload::{Progress, Range, checksums, split_related},
    },
};

impl Storage {
    pub(super) fn upload(&self, call: &Call, caller: &Principal, bucket: &str) -> Result<Response> {
        if let Some(id) = call.query("upload_id") {
            return self.upload_piece(call, id);
        }
        let kind = call.query("uploadType").unwrap_or("media");
        let hash = call.header("x-goog-hash");
        let content_type = call.header("content-type").unwrap_or_default();
        let (metadata, media_type, data) = match (&call.method, kind) {
            (&Method::POST, "media") => {
                (json!({}), Some(content_type.to_owned()).filter(|kind| !kind.is_empty()), call.body.clone())
            }
            (&Method::POST, "multipart") => split_related(content_type, &call.body)?,
            (&Method::POST | &Method::PUT, "resumable") => {
                (call.json()?, call.header("x-upload-content-type").map(str::to_owned), Bytes::new())
            }
            _ => return Err(no_route(call)),
        };
        let mut metadata = metadata;
        if let (Some(fields), Some(media_type)) = (metadata.as_object_mut(), media_type) {
            fields.entry("contentType").or_insert(Value::String(media_type));
        }
        if let (Some(fields), Some(encoding)) = (metadata.as_object_mut(), call.query("contentEncoding")) {
            fields.insert("contentEncoding".to_owned(), json!(encoding));
        }
        let name = metadata.get("name").and_then(Value::as_str).or(call.query("name"));
        let name = name.ok_or_else(|| Error::invalid("Required parameter: name"))?.to_owned();
        let mut to = destination(call, bucket, &name, &metadata)?;
        to.checksums = checksums(&metadata, hash);
        if kind != "resumable" {
            return Ok(ok(&self.insert(caller, to, data)?.json(&self.base())));
        }
        let id = self.begin_upload(caller, to)?;
        // The caller goes on at the address it came to; Google's Rust client leaves the port out of it.
        let host = call.header("host").filter(|host| host.contains(':'));
        let host = host.map_or_else(|| self.base(), |host| format!("{}://{host}", call.scheme));
        let location = format!(
            "{host}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&name={}&upload_id={id}",
            crate::storage::object::encode(&name)
        );
        let headers = [("location", location), ("x-guploader-uploadid", id)];
        Ok((StatusCode::OK, headers, "").into_response())
    }

    fn upload_piece(&self, call: &Call, id: &str) -> Result<Response> {
        if call.method == Method::DELETE {
            self.cancel_upload(id)?;
            let closed = StatusCode::from_u16(499).unwrap_or(StatusCode::NO_CONTENT);
            return Ok(closed.into_response());
        }
        let range = call.header("content-range").map(Range::parse).transpose()?;
        let progress = match range {
            Some(Range { start: None, total: None }) => self.upload_progress(id)?,
            range => self.continue_upload(id, range, &call.body, call.header("x-goog-hash"))?,
        };
        match progress {
            Progress::Done(object) => Ok(ok(&object.json(&self.base()))),
            Progress::Partial(here) => {
                let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
                response.headers_mut().insert("x-guploader-uploadid", text_header(id));
                if here > 0 {
                    response.headers_mut().insert(header::RANGE, text_header(&format!("bytes=0-{}", here - 1)));
                }
                Ok(response)
            }
        }
    }

    pub(super) fn download(&self, call: &Call, caller: &Principal, bucket: &str, name: &str) -> Result<Response> {
        if call.query("alt").is_some_and(|alt| alt != "media") {
            let object = self.get(caller, &source(call, bucket, name)?)?;
            return Ok(ok(&object.json(&self.base())));
        }
        let object = match self.get(caller, &source(call, bucket, name)?) {
            Ok(object) => object,
            // Media answers have plain sentences.
            Err(error) if error.http() == StatusCode::NOT_FOUND => {
                return Ok((error.http(), error.message().to_owned()).into_response());
            }
            Err(error) => return Err(error),
        };
        if let Some(file) = transcoded(call, &object) {
            return Ok(transcoded_answer(call, &object, file));
        }
        let size = object.data.len() as u64;
        let desired = call.header("range").and_then(|text| read_range(text, size));
        let (status, data, range) = match desired {
            None => (StatusCode::OK, object.data.clone(), None),
            Some(None) => {
                let mut response =
                    (StatusCode::RANGE_NOT_SATISFIABLE, "The requested range cannot be satisfied.").into_response();
                response.headers_mut().insert(header::CONTENT_RANGE, text_header(&format!("bytes */{size}")));
                return Ok(response);
            }
            Some(Some((start, end))) => {
                let slice = usize::try_from(start).unwrap_or(0)..usize::try_from(end).unwrap_or(0) + 1;
                (StatusCode::PARTIAL_CONTENT, object.data.slice(slice), Some(format!("bytes {start}-{end}/{size}")))
            }
        };
        let mut headers = object_headers(&object);
        if let Some(range) = range {
            headers.insert(header::CONTENT_RANGE, text_header(&range));
        }
        let body = if call.method == Method::HEAD { Body::empty() } else { Body::from(data) };
        let mut response = (status, body).into_response();
        response.headers_mut().extend(headers);
        Ok(response)
    }
}

/// The file in an object that is stored compressed, where Cloud Storage decompresses it: the data is gzip and the
/// metadata says so, and neither the request accepts gzip nor the metadata forbids to transform it
/// (<https://cloud.google.com/storage/docs/transcoding>).
fn transcoded(call: &Call, object: &Object) -> Option<Vec<u8>> {
    let attributes = &object.attributes;
    let accepts_gzip = call.header("accept-encoding").is_some_and(|accepted| {
        accepted.split(',').any(|coding| {
            let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
            name.trim().eq_ignore_ascii_case("gzip") && !matches!(quality.trim(), "q=0" | "q=0.0")
        })
    });
    if attributes.content_encoding != "gzip" || accepts_gzip || attributes.cache_control.contains("no-transform") {
        return None;
    }
    let mut file = Vec::new();
    MultiGzDecoder::new(&object.data[..]).read_to_end(&mut file).is_ok().then_some(file)
}

/// The whole file, whatever range is asked for, of unknown length. The hashes stay those of the stored bytes.
fn transcoded_answer(call: &Call, object: &Object, file: Vec<u8>) -> Response {
    let pieces = futures::stream::iter([Ok::<_, Infallible>(Bytes::from(file))]);
    let body = if call.method == Method::HEAD { Body::empty() } else { Body::from_stream(pieces) };
    let mut response = (StatusCode::OK, body).into_response();
    let headers = response.headers_mut();
    headers.extend(object_headers(object));
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::ACCEPT_RANGES);
    headers.insert(header::WARNING, HeaderValue::from_static("214 UploadServer gunzipped"));
    headers.insert("x-guploader-response-body-transformations", HeaderValue::from_static("gunzipped"));
    response
}

/// First and last byte of a range header: none for a header to ignore, an inner none for one that cannot be met.
#[expect(clippy::option_option, reason = "three cases, as the sentence above says")]
fn read_range(text: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let (start, end) = text.strip_prefix("bytes=")?.split_once('-')?;
    let last = size.checked_sub(1);
    if start.is_empty() {
        let length: u64 = end.parse().ok()?;
        return Some(last.filter(|_| length > 0).map(|last| (size.saturating_sub(length), last)));
    }
    let start: u64 = start.parse().ok()?;
    let end: u64 = if end.is_empty() { u64::MAX } else { end.parse().ok()? };
    if end < start {
        return None;
    }
    Some(last.filter(|last| start <= *last).map(|last| (start, end.min(last))))
}

fn object_headers(object: &Object) -> HeaderMap {
    let attributes = &object.attributes;
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: &str| {
        if !value.is_empty() {
            headers.insert(name, text_header(value));
        }
    };
    let content_type =
        if attributes.content_type.is_empty() { "application/octet-stream" } else { &attributes.content_type };
    put("content-type", content_type);
    put("content-encoding", &attributes.content_encoding);
    put("content-disposition", &attributes.content_disposition);
    put("content-language", &attributes.content_language);
    put(
        "cache-control",
        if attributes.cache_control.is_empty() { "private, max-age=0" } else { &attributes.cache_control },
    );
    put("etag", &object.etag());
    put("accept-ranges", "bytes");
    put("last-modified", &object.updated.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    put("x-goog-generation", &object.generation.to_string());
    put("x-goog-metageneration", &object.metageneration.to_string());
    put("x-goog-storage-class", &attributes.storage_class);
    put("x-goog-stored-content-length", &object.data.len().to_string());
    let encoding = if attributes.content_encoding.is_empty() { "identity" } else { &attributes.content_encoding };
    put("x-goog-stored-content-encoding", encoding);
    let hash = format!("crc32c={},md5={}", object.crc32c_text(), object.md5_text());
    put("x-goog-hash", &hash);
    for (key, value) in &attributes.metadata {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(format!("x-goog-meta-{key}")), HeaderValue::from_str(value))
        {
            headers.insert(name, value);
        }
    }
    headers
}

fn text_header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

//! Uploads: multipart bodies, and sessions that take an object in pieces.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tonic::Code;

use super::{
    Storage,
    object::{Checksums, Object},
    objects::Destination,
};
use crate::{
    google::error::{Error, Result},
    identity::principal::Principal,
};

/// A resumable upload.
#[derive(Clone, Debug)]
pub(super) struct Session {
    caller: Principal,
    to: Destination,
    data: BytesMut,
    done: Option<Arc<Object>>,
}

/// Where an upload is.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    /// So many bytes are here.
    Partial(u64),
    /// It is finished.
    Done(Arc<Object>),
}

/// `Content-Range` of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// First byte; none for a question.
    pub(super) start: Option<u64>,
    /// Size of the whole, where it is known.
    pub(super) total: Option<u64>,
}

impl Range {
    /// Reads `bytes A-B/T`, `bytes A-B/*`, `bytes */T`, `bytes */*`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("Failed to parse Content-Range header: {text}"));
        let (range, total) = text.strip_prefix("bytes").and_then(|rest| rest.trim().split_once('/')).ok_or_else(bad)?;
        let total = match total.trim() {
            "*" => None,
            number => Some(number.parse().map_err(|_| bad())?),
        };
        let start = match range.trim() {
            "*" => None,
            range => {
                let (start, _) = range.split_once('-').ok_or_else(bad)?;
                Some(start.trim().parse().map_err(|_| bad())?)
            }
        };
        Ok(Self { start, total })
    }
}

impl Storage {
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a resumable upload and answers its id.
    pub(super) fn begin_upload(&self, caller: &Principal, to: Destination) -> Result<String> {
        self.check_insert(caller, &to)?;
        let id = format!("{:032x}", rand::random::<u128>());
        let session = Session { caller: caller.clone(), to, data: BytesMut::new(), done: None };
        self.sessions().insert(id.clone(), session);
        Ok(id)
    }

    /// Takes a piece; the last one finishes the object.
    pub(super) fn continue_upload(
        &self,
        id: &str,
        range: Option<Range>,
        piece: &Bytes,
        hash: Option<&str>,
    ) -> Result<Progress> {
        let mut sessions = self.sessions();
        let session = sessions.get_mut(id).ok_or_else(no_upload)?;
        if let Some(done) = &session.done {
            return Ok(Progress::Done(done.clone()));
        }
        let here = session.data.len() as u64;
        let range = range.unwrap_or(Range { start: Some(here), total: Some(here + piece.len() as u64) });
        if let Some(start) = range.start {
            // Bytes that are here already are skipped; a gap is refused by telling how much is here.
            if start > here {
                return Ok(Progress::Partial(here));
            }
            let skip = usize::try_from(here - start).unwrap_or(usize::MAX);
            session.data.extend_from_slice(piece.get(skip..).unwrap_or_default());
        }
        let here = session.data.len() as u64;
        match range.total {
            Some(total) if here > total => Err(Error::invalid("More bytes were sent than the upload has.")),
            Some(total) if here == total => {
                let mut to = session.to.clone();
                if let Some(hash) = hash {
                    to.checksums.read_header(hash);
                }
                let (caller, data) = (session.caller.clone(), session.data.clone().freeze());
                drop(sessions);
                let object = self.insert(&caller, to, data)?;
                if let Some(session) = self.sessions().get_mut(id) {
                    session.done = Some(object.clone());
                    session.data = BytesMut::new();
                }
                Ok(Progress::Done(object))
            }
            _ => Ok(Progress::Partial(here)),
        }
    }

    /// Where an upload is.
    pub(super) fn upload_progress(&self, id: &str) -> Result<Progress> {
        let sessions = self.sessions();
        let session = sessions.get(id).ok_or_else(no_upload)?;
        Ok(session.done.clone().map_or_else(|| Progress::Partial(session.data.len() as u64), Progress::Done))
    }

    /// Gives an upload up.
    pub(super) fn cancel_upload(&self, id: &str) -> Result<()> {
        self.sessions().remove(id).map(|_| ()).ok_or_else(no_upload)
    }
}

fn no_upload() -> Error {
    Error::new(Code::NotFound, "No such upload: the session is unknown or was given up.")
}

/// A `multipart/related` upload: JSON metadata, then the data with its content type, then perhaps more metadata
/// (checksums, which a client that streams knows only at the end).
pub(super) fn split_related(content_type: &str, body: &Bytes) -> Result<(Value, Option<String>, Bytes)> {
    let parts = split_parts(content_type, body)?;
    let ([(_, metadata), (headers, data)] | [(_, metadata), (headers, data), _]) = parts.as_slice() else {
        return Err(Error::invalid("A multipart upload has two parts, or three with trailing metadata."));
    };
    let mut metadata = json_part(metadata)?;
    if let [_, _, (_, trailing)] = parts.as_slice()
        && let (Value::Object(metadata), Value::Object(trailing)) = (&mut metadata, json_part(trailing)?)
    {
        metadata.extend(trailing);
    }
    Ok((metadata, headers.get("content-type").cloned(), data.clone()))
}

fn json_part(text: &[u8]) -> Result<Value> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    serde_json::from_slice(text).map_err(|error| Error::invalid(format!("Invalid metadata in a part: {error}")))
}

/// Headers (lower-case names) and body of each part of a multipart body.
pub(super) fn split_parts(content_type: &str, body: &Bytes) -> Result<Vec<(HashMap<String, String>, Bytes)>> {
    let boundary = content_type
        .split(';')
        .filter_map(|parameter| parameter.trim().strip_prefix("boundary="))
        .map(|boundary| boundary.trim_matches(|quote| quote == '"' || quote == '\''))
        .next()
        .ok_or_else(|| Error::invalid("The Content-Type has no boundary."))?;
    let marker = format!("--{boundary}");
    let starts = find_all(body, marker.as_bytes());
    let mut parts = Vec::new();
    for pair in starts.windows(2) {
        let [start, end] = pair else { continue };
        let part = body.slice(start + marker.len()..*end);
        let part = part.slice(line_break(&part)..);
        let (head, rest) = split_head(&part);
        let headers = String::from_utf8_lossy(&head)
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        // The line break before the next marker belongs to the marker.
        let trailing = if rest.ends_with(b"\r\n") { 2 } else { usize::from(rest.ends_with(b"\n")) };
        parts.push((headers, rest.slice(..rest.len() - trailing)));
    }
    Ok(parts)
}

fn split_head(part: &Bytes) -> (Bytes, Bytes) {
    let starts_blank = line_break(part);
    if starts_blank > 0 {
        return (Bytes::new(), part.slice(starts_blank..));
    }
    let crlf = find(part, b"\r\n\r\n").map(|at| (at, 4));
    let lf = find(part, b"\n\n").map(|at| (at, 2));
    match [crlf, lf].into_iter().flatten().min() {
        Some((at, length)) => (part.slice(..at), part.slice(at + length..)),
        None => (part.clone(), Bytes::new()),
    }
}

fn line_break(part: &[u8]) -> usize {
    if part.starts_with(b"\r\n") { 2 } else { usize::from(part.starts_with(b"\n")) }
}

fn find(text: &[u8], desired: &[u8]) -> Option<usize> {
    text.windows(desired.len()).position(|window| window == desired)
}

/// Markers, each at the beginning of a line.
fn find_all(text: &[u8], marker: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = find(&text[from..], marker) {
        let at = from + at;
        if at == 0 || text[at - 1] == b'\n' {
            found.push(at);
        }
        from = at + marker.len();
    }
    found
}

/// Checksums that JSON metadata and headers give.
pub(super) fn checksums(metadata: &Value, hash: Option<&str>) -> Checksums {
    let mut checksums = Checksums::default();
    checksums.read_json(metadata);
    if let Some(hash) = hash {
        checksums.read_header(hash);
    }
    checksums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_their_bytes() {
        let body = Bytes::from_static(
            b"--x\r\ncontent-type: application/json\r\n\r\n{\"name\":\"n\"}\r\n--x\r\nContent-Type: text/plain\r\n\r\na --x\r\nb\r\n\r\n--x--\r\n",
        );
        let (metadata, kind, data) = split_related("multipart/related; boundary=\"x\"", &body).unwrap();
        assert_eq!(metadata["name"], "n");
        assert_eq!(kind.as_deref(), Some("text/plain"));
        assert_eq!(&data[..], b"a --x\r\nb\r\n");
    }

    #[test]
    fn ranges() {
        let range = |text| Range::parse(text).unwrap();
        assert_eq!(range("bytes 0-9/10"), Range { start: Some(0), total: Some(10) });
        assert_eq!(range("bytes 5-9/*"), Range { start: Some(5), total: None });
        assert_eq!(range("bytes */*"), Range { start: None, total: None });
        assert_eq!(range("bytes */7"), Range { start: None, total: Some(7) });
        assert!(Range::parse("0-9").is_err());
    }
}

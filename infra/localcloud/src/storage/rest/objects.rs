//! Objects over JSON: list, metadata, delete.

use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::page_json;
use crate::{
    google::{
        call::{Call, ok},
        error::Result,
    },
    identity::{principal::Principal, rest::no_route},
    storage::{
        Storage,
        list::Query,
        object::{Attributes, Preconditions},
        objects::{Destination, Source},
    },
};

impl Storage {
    pub(super) fn objects(&self, call: &Call, caller: &Principal, bucket: &str, rest: &[&str]) -> Result<Response> {
        match (&call.method, rest) {
            (&Method::GET, []) => self.list_json(call, caller, bucket),
            // Uploads come here too when the path is not prefixed.
            (&Method::POST, []) => self.upload(call, caller, bucket),
            (&Method::GET | &Method::HEAD, [object]) if call.query("alt") == Some("media") => {
                self.download(call, caller, bucket, object)
            }
            (method, [object]) => {
                let source = source(call, bucket, object)?;
                let object = match *method {
                    Method::GET => self.get(caller, &source)?,
                    Method::PATCH => self.patch(caller, &source, &call.json()?)?,
                    Method::DELETE => {
                        self.delete(caller, &source)?;
                        return Ok(StatusCode::NO_CONTENT.into_response());
                    }
                    _ => return Err(no_route(call)),
                };
                Ok(ok(&object.json(&self.base())))
            }
            _ => Err(no_route(call)),
        }
    }

    fn list_json(&self, call: &Call, caller: &Principal, bucket: &str) -> Result<Response> {
        let text = |name: &str| call.query(name).unwrap_or_default().to_owned();
        let query = Query {
            prefix: text("prefix"),
            delimiter: text("delimiter"),
            include_trailing_delimiter: call.flag("includeTrailingDelimiter"),
            start: text("startOffset"),
            end: text("endOffset"),
            page: call.page()?,
        };
        let listing = self.list(caller, bucket, &query)?;
        let items = listing.objects.iter().map(|object| object.json(&self.base())).collect();
        let mut answer = page_json("storage#objects", items, listing.next);
        if !listing.prefixes.is_empty() {
            answer["prefixes"] = json!(listing.prefixes);
        }
        Ok(ok(&answer))
    }
}

/// Conditions of a call.
pub(super) fn preconditions(call: &Call) -> Result<Preconditions> {
    Ok(Preconditions {
        generation_match: call.number("ifGenerationMatch")?,
        generation_not_match: call.number("ifGenerationNotMatch")?,
        metageneration_match: call.number("ifMetagenerationMatch")?,
        metageneration_not_match: call.number("ifMetagenerationNotMatch")?,
    })
}

/// The object a call is about.
pub(super) fn source(call: &Call, bucket: &str, name: &str) -> Result<Source> {
    Ok(Source {
        bucket: bucket.to_owned(),
        name: name.to_owned(),
        generation: call.number("generation")?,
        preconditions: preconditions(call)?,
    })
}

/// Where a call writes to.
pub(super) fn destination(call: &Call, bucket: &str, name: &str, resource: &Value) -> Result<Destination> {
    let mut attributes = Attributes::default();
    attributes.patch(resource)?;
    Ok(Destination {
        bucket: bucket.to_owned(),
        name: name.to_owned(),
        attributes,
        preconditions: preconditions(call)?,
        ..Destination::default()
    })
}

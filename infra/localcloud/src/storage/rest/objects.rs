//! Objects over JSON: list, metadata, delete, copy, rewrite, compose.

use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::page_json;
use crate::{
    google::{
        call::{Call, ok},
        error::{Error, Result},
    },
    identity::{principal::Principal, rest::no_route},
    storage::{
        On, Storage,
        list::Query,
        object::{Attributes, Preconditions},
        objects::{Destination, Source},
    },
};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Compose {
    source_objects: Vec<ComposeSource>,
    destination: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ComposeSource {
    name: String,
    generation: Option<String>,
    object_preconditions: ComposeConditions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ComposeConditions {
    if_generation_match: Option<String>,
}

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
                    Method::PATCH => self.patch(caller, &source, &call.json()?, false)?,
                    Method::PUT => self.patch(caller, &source, &call.json()?, true)?,
                    Method::DELETE => {
                        self.delete(caller, &source)?;
                        return Ok(StatusCode::NO_CONTENT.into_response());
                    }
                    _ => return Err(no_route(call)),
                };
                Ok(ok(&object.json(&self.base())))
            }
            (&Method::POST, [object, "compose"]) => self.compose_json(call, caller, bucket, object),
            (&Method::POST, [from, "copyTo", "b", to_bucket, "o", to]) => {
                let object = self.copy_json(call, caller, (bucket, from), (to_bucket, to))?;
                Ok(ok(&object))
            }
            (&Method::POST, [from, "rewriteTo", "b", to_bucket, "o", to]) => {
                let object = self.copy_json(call, caller, (bucket, from), (to_bucket, to))?;
                let size = object["size"].clone();
                Ok(ok(&json!({
                    "kind": "storage#rewriteResponse",
                    "totalBytesRewritten": size,
                    "objectSize": size,
                    "done": true,
                    "resource": object,
                })))
            }
            (&Method::POST, [from, "moveTo", "o", to]) => {
                self.need(caller, "storage.objects.move", On::Object(bucket, from))?;
                let object = self.copy_json(call, caller, (bucket, from), (bucket, to))?;
                let source = Source { bucket: bucket.to_owned(), name: (*from).to_owned(), ..Source::default() };
                self.delete(caller, &source)?;
                Ok(ok(&object))
            }
            (&Method::GET, [_, "iam", "testPermissions"]) => {
                let object = rest.first().copied().unwrap_or_default();
                let target = self.target(On::Object(bucket, object));
                let permissions = self.identity.testable(caller, &call.query_all("permissions"), &target);
                Ok(ok(&json!({ "kind": "storage#testIamPermissionsResponse", "permissions": permissions })))
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
            versions: call.flag("versions"),
            glob: text("matchGlob"),
            page: call.page()?,
        };
        let mut listing = self.list(caller, bucket, &query)?;
        if call.flag("softDeleted") {
            listing = crate::storage::list::Listing::default();
        }
        let items = listing.objects.iter().map(|object| object.json(&self.base())).collect();
        let mut answer = page_json("storage#objects", items, listing.next);
        if !listing.prefixes.is_empty() {
            answer["prefixes"] = json!(listing.prefixes);
        }
        Ok(ok(&answer))
    }

    fn compose_json(&self, call: &Call, caller: &Principal, bucket: &str, name: &str) -> Result<Response> {
        let wanted: Compose = call.json()?;
        let number = |text: Option<String>| {
            text.map(|text| text.parse::<i64>().map_err(|_| Error::invalid(format!("Invalid generation: {text}"))))
                .transpose()
        };
        let mut sources = Vec::new();
        for part in wanted.source_objects {
            sources.push(Source {
                bucket: bucket.to_owned(),
                name: part.name,
                generation: number(part.generation)?,
                preconditions: Preconditions {
                    generation_match: number(part.object_preconditions.if_generation_match)?,
                    ..Preconditions::default()
                },
            });
        }
        let to = destination(call, bucket, name, &wanted.destination)?;
        let object = self.compose(caller, &sources, to)?;
        if call.flag("deleteSourceObjects") {
            for source in &sources {
                self.delete(caller, source)?;
            }
        }
        Ok(ok(&object.json(&self.base())))
    }

    fn copy_json(&self, call: &Call, caller: &Principal, from: (&str, &str), to: (&str, &str)) -> Result<Value> {
        let source = Source {
            bucket: from.0.to_owned(),
            name: from.1.to_owned(),
            generation: call.number("sourceGeneration")?,
            preconditions: Preconditions {
                generation_match: call.number("ifSourceGenerationMatch")?,
                generation_not_match: call.number("ifSourceGenerationNotMatch")?,
                metageneration_match: call.number("ifSourceMetagenerationMatch")?,
                metageneration_not_match: call.number("ifSourceMetagenerationNotMatch")?,
            },
        };
        let body: Value = call.json()?;
        let given = body.as_object().is_some_and(|body| !body.is_empty());
        let to = destination(call, to.0, to.1, &body)?;
        Ok(self.copy(caller, &source, to, given)?.json(&self.base()))
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

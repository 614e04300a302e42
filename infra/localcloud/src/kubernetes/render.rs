//! How answers show objects: whole, only their metadata, or as the table that kubectl prints.

use std::borrow::Cow;

use http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    columns,
    kinds::Kind,
    request::{Query, Target},
    table,
    value::text,
};
use crate::clock::Clock;

/// The shape of objects in an answer.
#[derive(Clone, Debug)]
pub enum Shape {
    /// As they are.
    Whole,
    /// `PartialObjectMetadata`.
    Metadata,
    /// `Table` rows.
    Table {
        /// For ages.
        clock: Clock,
        /// `includeObject`: None, Metadata or Object.
        include: Include,
        /// Whether columns have been sent on this watch.
        headed: bool,
    },
}

/// What a table row carries of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// `PartialObjectMetadata`.
    Metadata,
    /// All of it.
    Object,
}

impl Shape {
    /// The first shape in `Accept` that is known; protobuf is passed over.
    pub fn accepted(headers: &HeaderMap, query: &Query, clock: &Clock) -> Self {
        let accept = headers.get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        for option in accept.split(',') {
            let mut parts = option.split(';').map(str::trim);
            if parts.next() != Some("application/json") {
                continue;
            }
            match parts.find_map(|part| part.strip_prefix("as=")) {
                Some("Table") => {
                    let include = match query.text("includeObject") {
                        "None" => Include::None,
                        "Object" => Include::Object,
                        _ => Include::Metadata,
                    };
                    return Self::Table { clock: clock.clone(), include, headed: false };
                }
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Self::Metadata,
                None => return Self::Whole,
                Some(_) => {}
            }
        }
        Self::Whole
    }

    /// One object. Borrowed when it is shown as it is: it is written out at once, and a copy would cost more than that.
    pub fn object<'a>(&self, target: &Target, object: &'a Value) -> Cow<'a, Value> {
        match self {
            Self::Whole => Cow::Borrowed(object),
            Self::Metadata => Cow::Owned(partial(object)),
            Self::Table { clock, include, .. } => {
                let version = json!({"resourceVersion": text(object, "/metadata/resourceVersion")});
                Cow::Owned(table(target, [object].into_iter(), clock.now(), *include, version, true))
            }
        }
    }

    /// One object of a watch.
    pub fn event<'a>(&mut self, target: &Target, object: &'a Value) -> Cow<'a, Value> {
        match self {
            Self::Table { clock, include, headed } => {
                let version = json!({"resourceVersion": text(object, "/metadata/resourceVersion")});
                let first = !std::mem::replace(headed, true);
                Cow::Owned(table(target, [object].into_iter(), clock.now(), *include, version, first))
            }
            _ => self.object(target, object),
        }
    }

    /// A list.
    pub fn list<'a>(&self, target: &Target, items: impl Iterator<Item = &'a Value>, metadata: Value) -> Value {
        match self {
            Self::Whole => {
                let items: Vec<_> = items.collect();
                let kind = format!("{}List", target.kind.kind);
                json!({"kind": kind, "apiVersion": target.kind.api_version(), "metadata": metadata, "items": items})
            }
            Self::Metadata => {
                let items: Vec<_> = items.map(partial).collect();
                json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                    "items": items,
                })
            }
            Self::Table { clock, include, .. } => table(target, items, clock.now(), *include, metadata, true),
        }
    }
}

fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_default(),
    })
}

fn table<'a>(
    target: &Target,
    items: impl Iterator<Item = &'a Value>,
    now: Timestamp,
    include: Include,
    metadata: Value,
    headed: bool,
) -> Value {
    let rows: Vec<_> = items
        .map(|object| {
            let mut row = json!({"cells": table::cells(target.kind, object, now)});
            match include {
                Include::None => {}
                Include::Metadata => row["object"] = partial(object),
                Include::Object => row["object"] = object.clone(),
            }
            row
        })
        .collect();
    let columns = if headed { columns(target.kind) } else { Value::Array(Vec::new()) };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns,
        "rows": rows,
    })
}

fn columns(kind: &Kind) -> Value {
    columns::columns(kind)
        .iter()
        .map(|column| {
            let format = if column.name == "Name" { "name" } else { "" };
            json!({
                "name": column.name, "type": column.kind, "format": format, "description": column.name,
                "priority": column.priority,
            })
        })
        .collect()
}

//! Files that are part of the program: one style sheet, the scripts, and what an app adds.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use contract::names;

use crate::Problem;

/// A file that is part of the program.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Name under `/assets/`.
    pub name: &'static str,
    /// Content type.
    pub kind: &'static str,
    /// Contents.
    pub body: &'static [u8],
}

const OURS: [Asset; 5] = [
    Asset { name: "app.css", kind: "text/css; charset=utf-8", body: include_bytes!("assets/app.css") },
    Asset { name: "app.js", kind: "text/javascript; charset=utf-8", body: include_bytes!("assets/app.js") },
    Asset { name: "live.js", kind: "text/javascript; charset=utf-8", body: include_bytes!("assets/live.js") },
    Asset { name: "log.js", kind: "text/javascript; charset=utf-8", body: include_bytes!("assets/log.js") },
    Asset { name: "icon.svg", kind: "image/svg+xml", body: include_bytes!("assets/icon.svg") },
];

/// Assets by name, each with the hash that is its version.
#[derive(Debug)]
pub(crate) struct Assets(BTreeMap<&'static str, (Asset, String)>);

impl Assets {
    pub(crate) fn new(of_app: &'static [Asset]) -> Self {
        let all = OURS.iter().chain(of_app);
        Self(all.map(|asset| (asset.name, (*asset, version(asset.body)))).collect())
    }

    /// URL of each by its name with `_` for `.` and `-` (`app_css`); the URL changes with the contents.
    pub(crate) fn urls(&self) -> BTreeMap<String, String> {
        let url = |(asset, version): &(Asset, String)| {
            (asset.name.replace(['.', '-'], "_"), format!("/assets/{}?v={version}", asset.name))
        };
        self.0.values().map(url).collect()
    }
}

fn version(body: &[u8]) -> String {
    names::hash_bytes(body, 12)
}

/// Answers with an asset; under the URL that pages use it never changes.
pub(crate) async fn get(
    State(assets): State<Arc<Assets>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some((asset, version)) = assets.0.get(name.as_str()) else {
        return Err(Problem::not_found("There is no such file"));
    };
    let tag = format!("\"{version}\"");
    if headers.get(header::IF_NONE_MATCH).is_some_and(|cached| cached.as_bytes() == tag.as_bytes()) {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    let mut response = asset.body.into_response();
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.insert(header::ETAG, tag);
    }
    Ok(response)
}

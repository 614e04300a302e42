//! The description of the API, in OpenAPI 3.1, made of the routes and of the types of their answers.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Extension, State as FromState},
    routing::{MethodRouter, get},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sessions::jobs::State as JobState;
use web::{Problem, Query, Visitor};

use crate::{
    actions::{Action, Done},
    state::State,
};

/// Path of the document.
pub(crate) const PATH: &str = "/api/v1/openapi.json";
/// Path of the actions.
pub(crate) const ACTIONS: &str = "/api/v1/actions";

/// Something to read: its route and its description.
pub(crate) struct Endpoint {
    /// Path.
    pub(crate) path: &'static str,
    /// How a `GET` is answered.
    pub(crate) route: MethodRouter<Arc<State>>,
    summary: &'static str,
    /// Parameters of the query; a name that ends in `!` is required.
    parameters: &'static [&'static str],
    schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Endpoint {
    /// An endpoint that answers with what `read` returns, whose type describes the answer.
    pub(crate) fn new<T, Reading>(
        path: &'static str,
        summary: &'static str,
        parameters: &'static [&'static str],
        read: impl Fn(Arc<State>, Visitor, Query) -> Reading + Clone + Send + Sync + 'static,
    ) -> Self
    where
        T: JsonSchema + Serialize + 'static,
        Reading: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let handler = async move |FromState(state): FromState<Arc<State>>, Extension(visitor), query: Query| {
            state.touch();
            read(state, visitor, query).await.map(Json)
        };
        Self { path, route: get(handler), summary, parameters, schema: SchemaGenerator::subschema_for::<T> }
    }
}

/// The document of these endpoints and of the actions.
pub(crate) fn document(endpoints: &[Endpoint]) -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut requests = settings.clone().for_deserialize().into_generator();
    let mut answers = settings.for_serialize().into_generator();
    let problem = answers.subschema_for::<Problem>();
    let mut paths = Map::new();
    for endpoint in endpoints {
        let answer = (endpoint.schema)(&mut answers);
        let parameters: Vec<Value> = endpoint.parameters.iter().map(|name| parameter(name)).collect();
        let operation =
            json!({"summary": endpoint.summary, "parameters": parameters, "responses": responses(&answer, &problem)});
        paths.insert(endpoint.path.to_owned(), json!({ "get": operation }));
    }
    let itself = json!({"summary": "This document", "responses": responses(&json!({"type": "object"}), &problem)});
    paths.insert(PATH.to_owned(), json!({ "get": itself }));
    let action = json!({
        "summary": "Cancel, pause, resume or retry a session, retry a Job, replay or discard a dead letter",
        "requestBody": {"required": true, "content": json_of(&requests.subschema_for::<Action>())},
        "responses": responses(&answers.subschema_for::<Done>(), &problem),
    });
    paths.insert(ACTIONS.to_owned(), json!({ "post": action }));
    let mut schemas = requests.take_definitions(true);
    schemas.extend(answers.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Deskgrid monitor",
            "version": "v1",
            "description": "The state of the queue, as JSON. Send `Authorization: Bearer TOKEN`, with an access token \
                of the monitor. A business that the token may not see does not exist for it.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas,
        },
    })
}

fn parameter(name: &str) -> Value {
    let schema = match name.trim_end_matches('!') {
        "page" | "rows" => json!({"type": "integer", "minimum": 1}),
        "generation" => json!({"type": "integer", "format": "int64"}),
        "state" => json!({"type": "string", "enum": JobState::ALL.map(JobState::as_str)}),
        "sort" => json!({"type": "string", "enum": ["changed", "job", "session", "business", "state"]}),
        "order" => json!({"type": "string", "enum": ["asc", "desc"]}),
        _ => json!({"type": "string"}),
    };
    json!({"name": name.trim_end_matches('!'), "in": "query", "required": name.ends_with('!'), "schema": schema})
}

fn json_of(schema: &impl Serialize) -> Value {
    json!({"application/json": {"schema": schema}})
}

fn responses(answer: &impl Serialize, problem: &Schema) -> Value {
    let problem = |description: &str| json!({"description": description, "content": json_of(problem)});
    json!({
        "200": {"description": "Done", "content": json_of(answer)},
        "400": problem("The request is malformed"),
        "401": problem("No access"),
        "404": problem("It does not exist, or not for this token"),
        "503": problem("A service that is needed does not answer"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;

    /// Everything that a document refers to.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_answer_is_described_by_the_type_that_makes_it() {
        let document = api::document();
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in found {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["JobState"]["oneOf"].as_array().unwrap().len(), JobState::ALL.len());
        assert_eq!(schemas["Session"]["properties"]["succeeded"]["type"], "integer", "what is flattened is a field");
        let required: Vec<&str> =
            schemas["Job"]["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(required.contains(&"state") && !required.contains(&"reason"), "{required:?}");
        let required = &schemas["Action"]["required"];
        assert_eq!(required, &json!(["action", "business", "session"]), "what may be left out of a request");
        for name in ["Business", "Cluster", "DeadLetter", "Done", "JobDetail", "Node", "Pod", "Problem", "Pubsub"] {
            assert_eq!(schemas[name]["type"], "object", "{name}");
        }
    }
}

//! The routes of the query and the submit listener, each with its description, and the OpenAPI 3.1 documents made of
//! both: a route without a description does not compile.
use axum::Router;
use axum::handler::Handler;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::error::{PROBLEM, Problem};

/// The kind of a query parameter.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// This word and no other.
    Word(&'static str),
    /// A whole number within these bounds.
    Number(u32, u32),
    /// How many items a page has, from 1; more than the maximum is the maximum.
    Limit,
    /// `1` or `0`.
    Flag,
    /// RFC 3339, UTC.
    Time,
    /// `2026-11-22`, UTC.
    Day,
}

/// A query parameter: its name, kind and meaning.
#[derive(Clone, Copy)]
pub(super) struct Parameter(pub(super) &'static str, pub(super) Kind, pub(super) &'static str);

/// The cursor of every list.
pub(super) const CURSOR: Parameter = Parameter("cursor", Kind::Text, "where to go on: `cursor` of the page before");

/// Makes the schema of a body.
type BodySchema = fn(&mut SchemaGenerator) -> Schema;

/// What an answer holds.
#[derive(Clone, Copy)]
enum Answer {
    Json(BodySchema),
    /// Of one of these content types.
    Bytes(&'static [&'static str]),
}

/// The description of a route.
#[derive(Clone, Copy)]
pub(super) struct Doc {
    summary: &'static str,
    answer: Answer,
    parameters: &'static [Parameter],
    /// Parameters that must be there.
    required: &'static [&'static str],
    /// Request headers with a meaning of their own.
    headers: &'static [Parameter],
    /// The content types that a request may have, with their schemas.
    bodies: &'static [(&'static str, BodySchema)],
    /// Statuses of errors besides those that every route has.
    statuses: &'static [u16],
    /// Statuses of success; an answer is the same with each.
    successes: &'static [u16],
    /// Another form that errors may have, as `application/json`.
    failure: Option<BodySchema>,
}

impl Doc {
    const fn new(summary: &'static str, answer: Answer) -> Self {
        Self {
            summary,
            answer,
            parameters: &[],
            required: &[],
            headers: &[],
            bodies: &[],
            statuses: &[],
            successes: &[200],
            failure: None,
        }
    }

    pub(super) fn json<T: JsonSchema>(summary: &'static str) -> Self {
        Self::new(summary, Answer::Json(SchemaGenerator::subschema_for::<T>))
    }

    pub(super) const fn bytes(content_types: &'static [&'static str], summary: &'static str) -> Self {
        Self::new(summary, Answer::Bytes(content_types))
    }

    pub(super) const fn query(mut self, parameters: &'static [Parameter]) -> Self {
        self.parameters = parameters;
        self
    }

    pub(super) const fn required(mut self, names: &'static [&'static str]) -> Self {
        self.required = names;
        self
    }

    pub(super) const fn headers(mut self, headers: &'static [Parameter]) -> Self {
        self.headers = headers;
        self
    }

    pub(super) fn body<T: JsonSchema>(self) -> Self {
        self.bodies(const { &[("application/json", SchemaGenerator::subschema_for::<T>)] })
    }

    pub(super) const fn bodies(mut self, bodies: &'static [(&'static str, BodySchema)]) -> Self {
        self.bodies = bodies;
        self
    }

    /// Errors may have this form, too.
    pub(super) fn fails<T: JsonSchema>(mut self) -> Self {
        self.failure = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    pub(super) const fn succeeds(mut self, statuses: &'static [u16]) -> Self {
        self.successes = statuses;
        self
    }

    pub(super) const fn or(mut self, statuses: &'static [u16]) -> Self {
        self.statuses = statuses;
        self
    }

    /// Always an error.
    pub(super) const fn never(mut self, statuses: &'static [u16]) -> Self {
        self.successes = &[];
        self.statuses = statuses;
        self
    }
}

/// Statuses that any route may answer.
const ALWAYS: [u16; 6] = [400, 404, 408, 429, 500, 503];
/// Statuses that any route with a body may answer besides.
const WITH_BODY: [u16; 1] = [413];

/// Routes and their descriptions.
pub(super) struct Api<S> {
    router: Router<S>,
    docs: Docs,
}

/// The descriptions of routes.
pub(super) struct Docs {
    about: &'static str,
    paths: Map<String, Value>,
    generator: SchemaGenerator,
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    pub(super) fn new(docs: Docs) -> Self {
        Self { router: Router::new(), docs }
    }

    pub(super) fn get<H: Handler<T, S>, T: 'static>(mut self, path: &str, handler: H, doc: Doc) -> Self {
        self.docs.add("get", path, doc);
        Self { router: self.router.route(path, get(handler)), ..self }
    }

    pub(super) fn post<H: Handler<T, S>, T: 'static>(mut self, path: &str, handler: H, doc: Doc) -> Self {
        self.docs.add("post", path, doc);
        Self { router: self.router.route(path, post(handler)), ..self }
    }

    pub(super) fn end(self) -> (Router<S>, Docs) {
        (self.router, self.docs)
    }
}

impl Docs {
    /// `about` says what the listener is for.
    pub(super) fn new(about: &'static str) -> Self {
        let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self { about, paths: Map::new(), generator: settings.into_generator() }
    }

    fn add(&mut self, method: &str, path: &str, doc: Doc) {
        let mut parameters: Vec<Value> = path_parameters(path);
        parameters.extend(doc.parameters.iter().map(|parameter| described("query", *parameter, doc.required)));
        parameters.extend(doc.headers.iter().map(|header| described("header", *header, &[])));
        let problem = self.generator.subschema_for::<Problem<'static>>();
        let mut error = json!({"description": "an error", "content": {PROBLEM: {"schema": problem}}});
        if let Some(schema) = doc.failure {
            error["content"]["application/json"] = json!({"schema": schema(&mut self.generator)});
        }
        let with_body: &[u16] = if method == "post" { &WITH_BODY } else { &[] };
        let mut responses = Map::new();
        for status in doc.successes {
            responses.insert(status.to_string(), self.success(doc.answer));
        }
        if method == "get" {
            let description = "the client has this answer already: its If-None-Match names it";
            responses.insert("304".to_owned(), json!({"description": description}));
        }
        for status in ALWAYS.iter().chain(with_body).chain(doc.statuses) {
            responses.insert(status.to_string(), error.clone());
        }
        let mut operation =
            json!({"summary": doc.summary, "operationId": operation_id(method, path), "responses": responses});
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if !doc.bodies.is_empty() {
            let of = |(kind, schema): &(&str, BodySchema)| {
                ((*kind).to_owned(), json!({"schema": schema(&mut self.generator)}))
            };
            let content: Map<String, Value> = doc.bodies.iter().map(of).collect();
            operation["requestBody"] = json!({"required": true, "content": content});
        }
        // OpenAPI has no `{*rest}`.
        let path = path.replace("{*", "{");
        if let Some(of) = self.paths.entry(path).or_insert_with(|| json!({})).as_object_mut() {
            of.insert(method.to_owned(), operation);
        }
    }

    fn success(&mut self, answer: Answer) -> Value {
        let content: Map<String, Value> = match answer {
            Answer::Json(schema) => {
                [("application/json".to_owned(), json!({"schema": schema(&mut self.generator)}))].into_iter().collect()
            }
            Answer::Bytes(kinds) => {
                let schema = |kind: &str| if kind.ends_with("json") { json!({}) } else { json!({"type": "string"}) };
                kinds.iter().map(|kind| ((*kind).to_owned(), json!({"schema": schema(kind)}))).collect()
            }
        };
        json!({"description": "the answer", "content": content})
    }

    /// The whole document.
    fn document(mut self) -> Value {
        let schemas = self.generator.take_definitions(true);
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Fama",
                "version": env!("CARGO_PKG_VERSION"),
                "description": self.about,
                "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "paths": self.paths,
            "components": {"schemas": schemas},
        })
    }

    /// The route that serves the document.
    pub(super) fn served<S: Clone + Send + Sync + 'static>(mut self, path: &'static str) -> Router<S> {
        self.add("get", path, Doc::json::<Value>("This document"));
        let text: axum::body::Bytes = self.document().to_string().into();
        Router::new().route(
            path,
            get(move || {
                std::future::ready(([(header::CONTENT_TYPE, "application/json")], text.clone()).into_response())
            }),
        )
    }
}

fn operation_id(method: &str, path: &str) -> String {
    let word = |part: &str| part.trim_matches(['{', '}', '*']).replace(['.', '-'], "_");
    let words: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(word).collect();
    format!("{method}_{}", words.join("_"))
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let one = |name: &str| {
        let name = name.trim_start_matches('*');
        let meaning = match name {
            "x" => "name@home, an id of 64 hex digits, a DID, or a name of the node's own home",
            "id" => "the id of an event, 64 hex digits",
            "key" => "a key like secp256k1:…, or the SHA-256 of its text in hex",
            "version" => "a version of the manifest, from 1",
            "hash" => "the hash of a note, 64 hex digits",
            _ => "see the protocol's chapter on public files",
        };
        json!({"name": name, "in": "path", "required": true, "description": meaning, "schema": {"type": "string"}})
    };
    names.map(one).collect()
}

fn described(place: &str, Parameter(name, kind, meaning): Parameter, required: &[&str]) -> Value {
    let schema = match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Word(word) => json!({"type": "string", "enum": [word]}),
        Kind::Number(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Limit => json!({"type": "integer", "minimum": 1}),
        Kind::Flag => json!({"type": "string", "enum": ["1", "0", "true", "false"]}),
        Kind::Time => json!({"type": "string", "format": "date-time"}),
        Kind::Day => json!({"type": "string", "format": "date"}),
    };
    let required = required.contains(&name);
    json!({"name": name, "in": place, "required": required, "description": meaning, "schema": schema})
}

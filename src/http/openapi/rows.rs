//! What each operation is called and does, in words, with the types of its body and its answers. An
//! operation that has no row here is found by a test, as is a row whose grants are not those that
//! the operation takes.

mod access;
mod cluster;
mod config;
mod open;
mod secrets;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::super::operation::Operation;
use super::errors::BodyKind;

/// How a type looks.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One operation.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) operation: Operation,
    /// Its name for generators of clients.
    pub(super) id: &'static str,
    /// In one line.
    pub(super) summary: &'static str,
    /// What one line does not say; may be empty.
    pub(super) text: &'static str,
    /// The grants that it takes: all of them.
    pub(super) needs: &'static [&'static str],
    pub(super) body: Option<Body>,
    pub(super) answers: &'static [Answer],
}

/// What a request carries.
#[derive(Clone, Copy)]
pub(super) struct Body {
    pub(super) kinds: &'static [&'static str],
    pub(super) schema: SchemaOf,
    pub(super) is_required: bool,
    pub(super) taken_apart: BodyKind,
}

/// A good answer.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: &'static str,
    /// Its body's type and how it looks; none where it has no body.
    pub(super) body: Option<(&'static str, SchemaOf)>,
}

const JSON: &[&str] = &["application/json"];
const MERGE_PATCH: &[&str] = &["application/merge-patch+json", "application/json"];

const fn of<T: JsonSchema>() -> SchemaOf {
    SchemaGenerator::subschema_for::<T>
}

const fn ok<T: JsonSchema>(status: u16, text: &'static str) -> Answer {
    Answer { status, text, body: Some(("application/json", of::<T>())) }
}

const fn nothing(status: u16, text: &'static str) -> Answer {
    Answer { status, text, body: None }
}

const NO_CONTENT: &[Answer] = &[nothing(204, "Done.")];

/// An object with known members.
const fn object<T: JsonSchema>() -> Option<Body> {
    let schema = of::<T>();
    Some(Body { kinds: JSON, schema, is_required: true, taken_apart: BodyKind::Fields })
}

/// The same, where it may be left out.
const fn maybe<T: JsonSchema>() -> Option<Body> {
    let schema = of::<T>();
    Some(Body { kinds: JSON, schema, is_required: false, taken_apart: BodyKind::Fields })
}

/// The row of an operation.
pub(super) fn of_operation(operation: Operation) -> Option<&'static Row> {
    let all = [config::ROWS, secrets::ROWS, access::ROWS, cluster::ROWS, open::ROWS];
    all.into_iter().flatten().find(|row| row.operation == operation)
}

/// Which part of the API an operation belongs to.
pub(super) fn tag(operation: Operation) -> &'static str {
    let parts = [
        ("Configurations", config::ROWS),
        ("Secrets", secrets::ROWS),
        ("Access", access::ROWS),
        ("Cluster", cluster::ROWS),
        ("Open to all", open::ROWS),
    ];
    let part = parts.into_iter().find(|(_, rows)| rows.iter().any(|it| it.operation == operation));
    part.map_or("Others", |(tag, _)| tag)
}

/// Bytes that are no text.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[expect(dead_code, reason = "a description, and never made")]
struct Bytes(#[schemars(extend("format" = "binary"))] String);

/// An object of any kind.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
#[expect(dead_code, reason = "a description, and never made")]
struct Object(std::collections::BTreeMap<String, crate::model::JsonText>);

//! What anybody may ask for.

use super::{Answer, Body, Row, nothing, of, ok};
use crate::http::discovery::{Jwks, Metadata};
use crate::http::health::Standing;
use crate::http::oauth::{Issued, Problem, TokenForm};
use crate::http::openapi::errors::BodyKind;
use crate::http::operation::Operation;

const fn text(kind: &'static str) -> Answer {
    Answer { status: 200, text: "It is this.", body: Some((kind, of::<String>())) }
}

pub(super) const ROWS: &[Row] = &[
    Row {
        operation: Operation::IssueToken,
        id: "issueToken",
        summary: "A token for a client secret (RFC 6749, client credentials)",
        text: "The client's name and secret in the form, or in an `Authorization: Basic` header.",
        needs: &[],
        body: Some(Body {
            kinds: &["application/x-www-form-urlencoded"],
            schema: of::<TokenForm>(),
            is_required: true,
            taken_apart: BodyKind::Form,
        }),
        answers: &[
            ok::<Issued<'static>>(200, "A token."),
            ok::<Problem<'static>>(400, "The request is wrong."),
            ok::<Problem<'static>>(401, "The client is not known, or its secret is wrong."),
            ok::<Problem<'static>>(429, "The client asks too often, or its address does."),
            ok::<Problem<'static>>(503, "Not now."),
        ],
    },
    Row {
        operation: Operation::GetJwks,
        id: "getJwks",
        summary: "The public keys that tokens are signed with (RFC 7517)",
        text: "",
        needs: &[],
        body: None,
        answers: &[ok::<Jwks<'static>>(200, "They are these.")],
    },
    Row {
        operation: Operation::GetDiscovery,
        id: "getIssuer",
        summary: "Who issues tokens, and where (RFC 8414)",
        text: "",
        needs: &[],
        body: None,
        answers: &[ok::<Metadata<'static>>(200, "It is this.")],
    },
    Row {
        operation: Operation::GetHealth,
        id: "getHealth",
        summary: "Whether the process can go on",
        text: "",
        needs: &[],
        body: None,
        answers: &[ok::<Standing>(200, "It can.")],
    },
    Row {
        operation: Operation::GetReady,
        id: "getReady",
        summary: "Whether a balancer may send requests to the node",
        text: "",
        needs: &[],
        body: None,
        answers: &[ok::<Standing>(200, "It may.")],
    },
    Row {
        operation: Operation::GetMetrics,
        id: "getMetrics",
        summary: "All metrics, in Prometheus' text format",
        text: "Unless `http.metrics_public` is set, it takes a token.",
        needs: &["cluster:read"],
        body: None,
        answers: &[text("text/plain")],
    },
    Row {
        operation: Operation::GetOpenApi,
        id: "getOpenApi",
        summary: "This description",
        text: "",
        needs: &[],
        body: None,
        answers: &[ok::<super::Object>(200, "It is this."), nothing(304, "The client has it.")],
    },
    Row {
        operation: Operation::GetDocs,
        id: "getDocs",
        summary: "This description, to be read",
        text: "",
        needs: &[],
        body: None,
        answers: &[text("text/html"), nothing(304, "The client has it.")],
    },
];

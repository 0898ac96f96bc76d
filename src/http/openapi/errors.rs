//! Which refusals an operation can be answered with: by what it takes, and by which path it goes.
//! That each name is one of `error`'s, with that status, and that none is seen in any test which is
//! not described, is for tests.

use std::collections::BTreeMap;

use super::super::operation::{Operation, Route};

/// A status and a name.
pub(super) type Refusal = (u16, &'static str);

/// All that there are, with when each is met.
pub(super) const ALL: &[(u16, &str, &str)] = &[
    (400, "BadName", "A name in the path or the body is none: too long, or of other characters."),
    (400, "BadQuery", "A parameter is unknown, stands twice, or is wrong."),
    (400, "BadHeader", "A header is wrong."),
    (400, "BadJson", "The body is no JSON, or not of the kind that is taken."),
    (400, "BadField", "A member of the body is missing or wrong; `field` says which."),
    (400, "UnknownField", "The body has a member that is not known."),
    (400, "DuplicateKey", "A key stands twice in the body."),
    (400, "BadCursor", "The cursor is damaged, or of another listing."),
    (400, "BadSession", "The session is damaged."),
    (401, "Unauthorized", "There is no good token."),
    (403, "Forbidden", "The token, or its account's roles, do not allow it."),
    (404, "NotFound", "There is no such thing; of a removed key, its removal and conflicts."),
    (405, "MethodNotAllowed", "The path does not take this method; `Allow` says which it takes."),
    (408, "RequestTooSlow", "The client was too slow to send its body."),
    (409, "AlreadyExists", "The name is taken."),
    (
        409,
        "AmbiguousVersion",
        "The version names no single entry; `candidates` names those that are there.",
    ),
    (409, "Conflict", "As things stand, this can't be done."),
    (
        410,
        "Gone",
        "The version, or all that was asked for of the audit log, is not kept here any more.",
    ),
    (412, "PreconditionFailed", "What is there is not what was expected."),
    (412, "SessionNotReached", "The node does not have what the session has seen, not yet."),
    (413, "BodyTooLarge", "The body is too long."),
    (413, "TooManyEntries", "There are too many entries in one write."),
    (413, "ValueTooLarge", "The value is too long."),
    (413, "WriteTooLarge", "The write comes to too many bytes for one change."),
    (415, "UnsupportedMediaType", "The body is said to be of another kind."),
    (422, "BadValue", "What the patch comes to is no value that is kept."),
    (422, "IdempotencyKeyReused", "The Idempotency-Key was used with another request."),
    (422, "LimitReached", "There are as many of these as there may be."),
    (422, "UnknownAlgorithm", "The algorithm is not known."),
    (422, "UnknownSecret", "The configuration refers to a secret that is not there."),
    (426, "UpgradeRequired", "The WebSocket's handshake is wrong."),
    (429, "TooManyRequests", "The client asks too often; `Retry-After` says when it may again."),
    (429, "TooManyWatches", "The client has as many watches open as it may."),
    (500, "SecretDamaged", "The secret does not open: what is stored was changed."),
    (503, "KeyUnavailable", "The node lacks the master key that this takes."),
    (503, "NotReady", "The node has not caught up yet, or can't do this now."),
    (503, "OutcomeUnknown", "It may have been done or not: ask again with the same key."),
    (503, "Overloaded", "The node has as much to do as it can, and did nothing of this."),
    (503, "PolicyTooOld", "The node's rules are older than the settings allow."),
    (503, "QuorumUnavailable", "No quorum answers, or none that this node hears."),
    (503, "ShuttingDown", "The node is shutting down."),
    (503, "StorageFailed", "The store failed."),
    (503, "TimedOut", "It took too long; a write may have happened or not."),
    (503, "TooManyWatches", "As many watches are open at the node as may be."),
    (503, "TooStale", "The node's copy is older than the request allows."),
    (503, "WriteUnknown", "The store failed while it wrote: it may have happened or not."),
    (507, "StorageFull", "The disk is full; reads go on."),
];

/// Its names by status, in order.
pub(super) fn of(
    operation: Operation,
    pattern: &str,
    body: Option<BodyKind>,
    needs_token: bool,
) -> BTreeMap<u16, Vec<&'static str>> {
    let mut all = vec![(503, "Overloaded"), (503, "TimedOut")];
    let is_about_health =
        matches!(operation, Operation::GetHealth | Operation::GetReady | Operation::GetMetrics);
    if !is_about_health {
        all.push((429, "TooManyRequests"));
    }
    if !matches!(operation, Operation::GetMetrics | Operation::IssueToken) {
        all.push((400, "BadQuery"));
    }
    if needs_token {
        all.push((401, "Unauthorized"));
        if !matches!(operation, Operation::ListDocuments | Operation::GetReceipts) {
            all.push((403, "Forbidden"));
        }
    }
    let named = ["service", "environment", "key", "role", "node"];
    if Route::names(pattern).any(|name| named.contains(&name)) {
        all.push((400, "BadName"));
    }
    of_body(body, &mut all);
    of_headers(operation, &mut all);
    of_parameters(operation, &mut all);
    of_config(operation, &mut all);
    of_quorum(operation, &mut all);
    of_others(operation, &mut all);
    all.sort_unstable();
    all.dedup();
    let mut by_status: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    for (status, name) in all {
        by_status.entry(status).or_default().push(name);
    }
    by_status
}

/// How a body is taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// One JSON value, whichever.
    Value,
    /// An object with members that are known.
    Fields,
    /// A form.
    Form,
}

fn of_body(body: Option<BodyKind>, all: &mut Vec<Refusal>) {
    let Some(kind) = body else { return };
    all.extend([(408, "RequestTooSlow"), (413, "BodyTooLarge"), (400, "BadJson")]);
    if kind != BodyKind::Form {
        all.push((415, "UnsupportedMediaType"));
    }
    if kind == BodyKind::Fields {
        all.extend([(400, "BadField"), (400, "UnknownField"), (400, "BadName")]);
    }
}

fn of_headers(operation: Operation, all: &mut Vec<Refusal>) {
    let takes = operation.headers();
    if !takes.is_empty() || operation == Operation::GetDiscovery {
        all.push((400, "BadHeader"));
    }
    if takes.contains(&"Holm-Session") {
        all.push((400, "BadSession"));
    }
    if takes.contains(&"Holm-Wait") {
        all.push((412, "SessionNotReached"));
    }
    if takes.contains(&"If-Match") {
        all.push((412, "PreconditionFailed"));
    }
    if takes.contains(&"Idempotency-Key") {
        all.push((422, "IdempotencyKeyReused"));
    }
}

fn of_parameters(operation: Operation, all: &mut Vec<Refusal>) {
    let takes = |name| operation.parameters().contains(&name);
    if takes("cursor") {
        all.push((400, "BadCursor"));
    }
    if takes("since") || takes("session") {
        all.push((400, "BadSession"));
    }
    if takes("message") {
        all.push((400, "BadField"));
    }
    if takes("consistency") {
        all.extend([
            (400, "BadHeader"),
            (503, "QuorumUnavailable"),
            (503, "TooStale"),
            (503, "StorageFailed"),
            (412, "SessionNotReached"),
        ]);
    }
    if takes("resolve") {
        all.extend([
            (400, "BadJson"),
            (422, "UnknownSecret"),
            (422, "LimitReached"),
            (500, "SecretDamaged"),
            (503, "KeyUnavailable"),
        ]);
    }
}

fn of_config(operation: Operation, all: &mut Vec<Refusal>) {
    if operation.is_config() && !operation.is_read() {
        all.extend([
            (413, "WriteTooLarge"),
            (503, "PolicyTooOld"),
            (503, "ShuttingDown"),
            (503, "StorageFailed"),
            (503, "WriteUnknown"),
            (507, "StorageFull"),
        ]);
    }
    match operation {
        Operation::PutKey => all.push((413, "ValueTooLarge")),
        Operation::PatchKey => {
            all.extend([(413, "ValueTooLarge"), (422, "BadValue"), (404, "NotFound")]);
        }
        Operation::Post => all.extend([
            (400, "DuplicateKey"),
            (412, "PreconditionFailed"),
            (413, "TooManyEntries"),
            (413, "ValueTooLarge"),
        ]),
        Operation::RemoveKey => all.push((404, "NotFound")),
        Operation::GetKey => all.push((404, "NotFound")),
        Operation::ListVersions => all.extend([(404, "NotFound"), (503, "StorageFailed")]),
        Operation::GetVersion | Operation::Restore => all.extend([
            (400, "BadField"),
            (404, "NotFound"),
            (409, "AmbiguousVersion"),
            (410, "Gone"),
            (503, "StorageFailed"),
        ]),
        Operation::Watch => {
            all.extend([(426, "UpgradeRequired"), (429, "TooManyWatches"), (503, "TooManyWatches")])
        }
        _ => {}
    }
}

/// What is decided by the quorum.
fn of_quorum(operation: Operation, all: &mut Vec<Refusal>) {
    let is_decided =
        !operation.is_read() && !operation.is_config() && operation != Operation::IssueToken;
    if is_decided {
        all.extend([
            (409, "Conflict"),
            (503, "OutcomeUnknown"),
            (503, "QuorumUnavailable"),
            (503, "StorageFailed"),
        ]);
    }
    let (not_there, taken, limit) =
        ((404, "NotFound"), (409, "AlreadyExists"), (422, "LimitReached"));
    match operation {
        Operation::CreateAccount | Operation::CreateRole => all.extend([not_there, taken, limit]),
        Operation::UpdateAccount
        | Operation::UpdateRole
        | Operation::AddCredential
        | Operation::BindRole => all.extend([not_there, limit]),
        Operation::GetAccount
        | Operation::GetRole
        | Operation::ExplainAccess
        | Operation::DeleteAccount
        | Operation::DeleteRole
        | Operation::RevokeCredential
        | Operation::UnbindRole
        | Operation::RetireGeneration
        | Operation::RetireSigningKey
        | Operation::RemoveHistoryPolicy
        | Operation::ChangeQuorum => all.push(not_there),
        Operation::AddSigningKey => all.extend([limit, (503, "NotReady")]),
        Operation::PutHistoryPolicy => all.push(limit),
        Operation::RotateKeys => all.extend([limit, (503, "KeyUnavailable")]),
        Operation::PostSecret => all.extend([
            limit,
            (412, "PreconditionFailed"),
            (413, "ValueTooLarge"),
            (422, "UnknownAlgorithm"),
            (503, "KeyUnavailable"),
        ]),
        Operation::GetSecret => {
            all.extend([not_there, (500, "SecretDamaged"), (503, "KeyUnavailable")]);
        }
        Operation::RemoveSecret => all.extend([not_there, (503, "KeyUnavailable")]),
        _ => {}
    }
}

fn of_others(operation: Operation, all: &mut Vec<Refusal>) {
    match operation {
        Operation::GetHealth | Operation::VerifyAudit => all.push((503, "StorageFailed")),
        Operation::ListAudit => all.extend([(410, "Gone"), (503, "StorageFailed")]),
        Operation::GetReady => all.extend([(503, "NotReady"), (503, "ShuttingDown")]),
        Operation::BackUp => {
            all.extend([(503, "NotReady"), (503, "StorageFailed"), (507, "StorageFull")]);
            all.push((503, "QuorumUnavailable"));
        }
        Operation::GetOpenApi | Operation::GetDocs => all.push((400, "BadHeader")),
        _ => {}
    }
}

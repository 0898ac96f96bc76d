use super::*;
use crate::model::{Dot, Origin, Service};

const GOLDEN: &str = include_str!("../../../tests/golden/errors.json");

/// One of each. The match makes a new error without a sample fail to compile.
#[expect(clippy::too_many_lines, reason = "one line an error: a table")]
fn samples() -> Vec<ApiError> {
    let key = || Key::new("a.b").unwrap();
    let secret = || SecretName::new("db").unwrap();
    let first = ApiError::BadName(Service::new("").unwrap_err());
    let text = str::to_owned;
    let mut samples = vec![first];
    while let Some(next) = match samples[samples.len() - 1] {
        ApiError::BadName(_) => {
            Some(ApiError::BadQuery { parameter: text("size"), reason: text("is wrong") })
        }
        ApiError::BadQuery { .. } => {
            Some(ApiError::BadHeader { header: "Holm-Ack", reason: text("is wrong") })
        }
        ApiError::BadHeader { .. } => Some(ApiError::BadJson(text("expected value at line 1"))),
        ApiError::BadJson(_) => {
            Some(ApiError::BadField { field: text("entries[3].key"), reason: text("is missing") })
        }
        ApiError::BadField { .. } => Some(ApiError::UnknownField(text("valeu"))),
        ApiError::UnknownField(_) => Some(ApiError::DuplicateKey(text("a.b"))),
        ApiError::DuplicateKey(_) => Some(ApiError::BadCursor("the cursor is damaged")),
        ApiError::BadCursor(_) => Some(ApiError::BadSession(SessionError::Damaged)),
        ApiError::BadSession(_) => Some(ApiError::Unauthorized),
        ApiError::Unauthorized => {
            Some(ApiError::Forbidden(Denied { why: text("this token may not write web/dev/a") }))
        }
        ApiError::Forbidden(_) => Some(ApiError::NotFound {
            what: text("the key a.b"),
            gone: JsonText::parse(r#"{"removed":true,"version":7}"#).ok().map(|removal| Gone {
                removal,
                conflicts: JsonText::parse(r#"[{"value":1}]"#).ok(),
            }),
        }),
        ApiError::NotFound { .. } => Some(ApiError::VersionGone {
            key: key(),
            version: text("7@0101010101010101"),
            oldest: Some(51),
        }),
        ApiError::VersionGone { .. } => Some(ApiError::AuditArchived {
            nodes: ["a-1", "b-1"].map(|name| NodeName::new(name).unwrap()).into(),
        }),
        ApiError::AuditArchived { .. } => Some(ApiError::UnknownPath),
        ApiError::UnknownPath => Some(ApiError::MethodNotAllowed { allow: "GET, HEAD, OPTIONS" }),
        ApiError::MethodNotAllowed { .. } => Some(ApiError::RequestTooSlow),
        ApiError::RequestTooSlow => Some(ApiError::AmbiguousVersion {
            version: 7,
            candidates: vec![text("7@0101010101010101"), text("7@0202020202020202")],
        }),
        ApiError::AmbiguousVersion { .. } => {
            Some(ApiError::PreconditionFailed { detail: text("a.b: the key is at version 3") })
        }
        ApiError::PreconditionFailed { .. } => Some(ApiError::SessionNotReached),
        ApiError::SessionNotReached => {
            Some(ApiError::SessionLost(Dot { origin: Origin([1; 8]), n: 7 }))
        }
        ApiError::SessionLost(_) => Some(ApiError::BodyTooLarge { max: 10 }),
        ApiError::BodyTooLarge { .. } => {
            Some(ApiError::ValueTooLarge { key: key(), len: 11, max: 10 })
        }
        ApiError::ValueTooLarge { .. } => Some(ApiError::TooManyEntries { count: 11, max: 10 }),
        ApiError::TooManyEntries { .. } => Some(ApiError::WriteTooLarge { bytes: 11, max: 10 }),
        ApiError::WriteTooLarge { .. } => Some(ApiError::UnsupportedMediaType {
            expected: "application/json, in UTF-8",
            found: text("text/plain"),
        }),
        ApiError::UnsupportedMediaType { .. } => {
            Some(ApiError::BadValue { key: key(), reason: text("the merged value is too deep") })
        }
        ApiError::BadValue { .. } => Some(ApiError::IdempotencyKeyReused),
        ApiError::IdempotencyKeyReused => Some(ApiError::UpgradeRequired(text("no key"))),
        ApiError::UpgradeRequired(_) => Some(ApiError::TimedOut),
        ApiError::TimedOut => Some(ApiError::Overloaded),
        ApiError::Overloaded => Some(ApiError::TooManyWatches),
        ApiError::TooManyWatches => Some(ApiError::TooManyWatchesOfClient { max: 10 }),
        ApiError::TooManyWatchesOfClient { .. } => Some(ApiError::TooManyRequests(Quota {
            policy: "writes",
            burst: 20,
            window_s: 10,
            left: 0,
            full_in_s: 10,
            retry_after_s: 3,
        })),
        ApiError::TooManyRequests(_) => {
            Some(ApiError::NotReady(text("no peer was caught up with")))
        }
        ApiError::NotReady(_) => Some(ApiError::StorageFailed),
        ApiError::StorageFailed => Some(ApiError::WriteUnknown),
        ApiError::WriteUnknown => Some(ApiError::ShuttingDown),
        ApiError::ShuttingDown => Some(ApiError::StorageFull),
        ApiError::StorageFull => Some(ApiError::AlreadyExists { what: text("the role team") }),
        ApiError::AlreadyExists { .. } => {
            Some(ApiError::Conflict(text("the cluster would be without an administrator")))
        }
        ApiError::Conflict(_) => {
            Some(ApiError::VersionMismatch { detail: text("it has version 3") })
        }
        ApiError::VersionMismatch { .. } => {
            Some(ApiError::LimitReached(text("there are 10000 roles already")))
        }
        ApiError::LimitReached(_) => Some(ApiError::QuorumUnavailable(text("no leader is known"))),
        ApiError::QuorumUnavailable(_) => {
            Some(ApiError::OutcomeUnknown(text("the connection to the leader was lost")))
        }
        ApiError::OutcomeUnknown(_) => Some(ApiError::TooStale {
            staleness: Duration::from_millis(70),
            max: Duration::from_millis(50),
        }),
        ApiError::TooStale { .. } => Some(ApiError::PolicyTooOld {
            age: Duration::from_secs(70),
            max: Duration::from_secs(50),
        }),
        ApiError::PolicyTooOld { .. } => Some(ApiError::UnknownAlgorithm),
        ApiError::UnknownAlgorithm => Some(ApiError::SecretTooLarge { len: 11, max: 10 }),
        ApiError::SecretTooLarge { .. } => Some(ApiError::UnknownSecret { name: secret() }),
        ApiError::UnknownSecret { .. } => Some(ApiError::KeyUnavailable(KeyError::Missing(2))),
        ApiError::KeyUnavailable(_) => Some(ApiError::SecretDamaged { name: secret(), version: 3 }),
        ApiError::SecretDamaged { .. } => None,
    } {
        samples.push(next);
    }
    samples
}

/// Status, headers and body of an answer, as the golden file has them.
fn shown(error: &ApiError) -> String {
    let response = error.clone().into_response();
    let headers: Vec<String> = (response.headers().iter())
        .map(|(name, value)| format!("\"{name}: {}\"", value.to_str().unwrap().replace('"', "'")))
        .collect();
    let status = response.status().as_u16();
    format!(
        "{{\"status\":{status},\"headers\":[{}],\n  \"body\":{}}}",
        headers.join(","),
        error.body()
    )
}

#[test]
fn every_error_answers_as_the_golden_file_says() {
    let all: Vec<String> = samples().iter().map(shown).collect();
    let all = format!("[\n{}\n]\n", all.join(",\n"));
    let _: serde_json::Value = serde_json::from_str(&all).unwrap();
    assert!(all == GOLDEN, "tests/golden/errors.json is not:\n{all}");
}

#[test]
fn a_writes_errors_keep_what_they_say() {
    let key = Key::new("a").unwrap();
    let error = WriteError::PreconditionFailed { key, found: "the key is not there".into() };
    let answer = ApiError::from(error).body();
    assert!(answer.contains("\"detail\":\"a: the key is not there\""), "{answer}");
    let hidden = ApiError::from(WriteError::StorageFailed("/secret/path".into())).body();
    assert!(!hidden.contains("/secret"), "{hidden}");
}

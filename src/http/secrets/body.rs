//! The body of a write of a secret: read into memory that is overwritten after use, and taken
//! apart without ever being repeated in an error.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use zeroize::Zeroizing;

use crate::http::App;
use crate::http::body::{Fields, body, check_type, whole};
use crate::http::edge::Incoming;
use crate::http::error::ApiError;
use crate::model::SecretName;
use crate::secrets::sealed::VALUE_LEN_MAX;
use crate::secrets::{Algorithm, Plaintext};

/// Longest body: the longest value with each byte as `\u00xx`, and the other members.
const BODY_LEN_MAX: usize = 6 * VALUE_LEN_MAX + 4 * 1024;

/// What a write asks for.
pub(super) struct Put {
    pub(super) name: SecretName,
    pub(super) value: Plaintext,
    pub(super) algorithm: Algorithm,
    pub(super) expect_version: Option<u64>,
}

/// Reads the body. The pieces that the connection reads into are not ours to overwrite; the one
/// that they are put together in is.
pub(super) async fn read(
    app: &App,
    incoming: &Incoming,
    body: Body,
) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    check_type(incoming.headers(), None)?;
    let max = BODY_LEN_MAX;
    let announced = incoming.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|len| len.to_str().ok()).and_then(|len| len.parse().ok());
    if announced.is_some_and(|len: u64| len > max as u64) {
        return Err(ApiError::BodyTooLarge { max });
    }
    let announced = announced.and_then(|len| usize::try_from(len).ok());
    // Of its whole length from the start: a vector that grows leaves what it had behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(announced.unwrap_or(max)));
    let mut body = Limited::new(body, max);
    let collected = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| match error.is::<LengthLimitError>() {
                true => ApiError::BodyTooLarge { max },
                false => ApiError::BadJson("it broke off".to_owned()),
            })?;
            if let Some(data) = frame.data_ref() {
                bytes.extend_from_slice(data);
            }
        }
        Ok::<_, ApiError>(())
    };
    let timeout = app.settings().http.request_timeout;
    tokio::time::timeout(timeout, collected).await.map_err(|_| ApiError::RequestTooSlow)??;
    Ok(bytes)
}

body! {
    /// A secret that is to be kept, or a known one's next version.
    NewSecret {
        name: SecretName,
        /// In plain text; the server seals it.
        #[schemars(length(max = VALUE_LEN_MAX))]
        value: String,
        /// What it is sealed with. Default: `aes-256-gcm`.
        #[schemars(transform = algorithms)]
        algorithm: Option<String>,
        /// The version that it has to have now; 0 where it may not be there.
        expect_version: Option<u64>,
    }
}

fn algorithms(schema: &mut schemars::Schema) {
    let names = Algorithm::ALL.map(|algorithm| Some(algorithm.name()));
    schema.insert("enum".to_owned(), serde_json::json!([&names[..], &[None]].concat()));
}

/// Takes it apart.
pub(super) fn put(bytes: &[u8]) -> Result<Put, ApiError> {
    // What a parser says of a text can repeat it.
    let silent = |_| ApiError::BadJson("an object is expected; nothing of it is shown".to_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| silent(()))?;
    let fields = Fields::read(text, "", NewSecret::FIELDS);
    let fields = fields.map_err(|error| match error {
        ApiError::BadJson(_) => silent(()),
        other => other,
    })?;
    let name = SecretName::new(&fields.text("name")?)?;
    let value = match fields.text("value")? {
        Cow::Owned(text) => Plaintext::new(text.into_bytes()),
        Cow::Borrowed(text) => Plaintext::new(text.as_bytes().to_vec()),
    };
    if value.len() > VALUE_LEN_MAX {
        return Err(ApiError::SecretTooLarge { len: value.len(), max: VALUE_LEN_MAX });
    }
    let algorithm = match fields.get("algorithm").map(|raw| raw.get()) {
        None | Some("null") => Algorithm::Aes256Gcm,
        Some(_) => {
            Algorithm::named(&fields.text("algorithm")?).ok_or(ApiError::UnknownAlgorithm)?
        }
    };
    let expect_version = match fields.get("expect_version").map(|raw| raw.get()) {
        None | Some("null") => None,
        Some(raw) => {
            let reason = "has to be a version number, or 0 for a secret that is not there";
            Some(whole(raw).ok_or_else(|| fields.bad("expect_version", reason))?)
        }
    };
    Ok(Put { name, value, algorithm, expect_version })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    fn error(body: &str) -> String {
        put(body.as_bytes()).err().unwrap_or_else(|| panic!("{body}")).body()
    }

    #[test]
    fn a_value_with_escapes_is_the_text_that_it_stands_for() {
        let read = put(br#"{"name":"db","value":"a\u00e4\"\n","algorithm":null}"#).unwrap();
        assert_eq!(read.value.expose(), "aä\"\n".as_bytes());
        assert_eq!((read.algorithm, read.expect_version), (Algorithm::Aes256Gcm, None));
    }

    #[test]
    fn no_error_repeats_a_value_wherever_it_stands() {
        for body in [
            "\"hunter2\"",
            "hunter2",
            "[\"hunter2\"]",
            r#"{"name":"db","value":hunter2}"#,
            r#"{"name":"db","value":["hunter2"]}"#,
            r#"{"name":"db","value":"hunter2","algorithm":"hunter2"}"#,
            r#"{"name":"db","value":"hunter2","algorithm":7}"#,
            r#"{"name":"db","value":"hunter2","expect_version":"hunter2"}"#,
            r#"{"name":"db","value":"hunter2","value":"hunter2"}"#,
            r#"{"name":"db","value":"hunter2"#,
            r#"{"name":"hunter2/","value":"hunter2"}"#,
            r#"{"value":"hunter2"}"#,
        ] {
            assert!(!error(body).contains("hunter2"), "{body}: {}", error(body));
        }
        assert!(error(r#"{"name":"a","value":"x","algorithm":"des"}"#).contains("aes-256-gcm-siv"));
    }

    #[test]
    fn a_value_past_the_limit_is_refused_by_its_length() {
        let body = |len: usize| format!(r#"{{"name":"a","value":"{}"}}"#, "x".repeat(len));
        assert!(put(body(VALUE_LEN_MAX).as_bytes()).is_ok());
        assert!(error(&body(VALUE_LEN_MAX + 1)).contains("\"error\":\"ValueTooLarge\""));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = put(&bytes);
        }
    }
}

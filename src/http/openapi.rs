//! `GET /openapi.json`: the API, described as OpenAPI 3.1 has it; and `GET /docs`, the same to be
//! read. Both are made from what requests are answered with: the table of routes and operations
//! (`operation`), the parameters that queries are read by (`operation::takes`), the types that
//! bodies are taken apart by and answers are written from. Nothing is described by hand that the
//! code says already; `rows` adds the words.
//!
//! Public, as the other discovery documents are: it says what the program's source says, with this
//! node's limits, and nothing of what the cluster holds. A generator of clients has no token.

mod build;
mod errors;
mod headers;
mod page;
mod parameters;
mod rows;

use std::sync::{Arc, OnceLock};

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;

use super::App;
use super::edge::Incoming;
use super::error::ApiError;
use super::etag;

/// How long either may be kept: a next program may describe more.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// Both, once somebody asked.
#[derive(Default)]
pub(super) struct Described(OnceLock<Arc<Texts>>);

struct Texts {
    document: Bytes,
    document_tag: HeaderValue,
    page: Bytes,
    page_tag: HeaderValue,
    page_policy: HeaderValue,
}

impl Described {
    fn texts(&self, app: &App) -> &Texts {
        self.0.get_or_init(|| {
            let document = build::document(app.settings());
            let page = page::render(&document);
            let json = document.to_string();
            let policy = HeaderValue::try_from(page.policy);
            Arc::new(Texts {
                document_tag: tag(&json),
                document: json.into(),
                page_tag: tag(&page.html),
                page: page.html.into(),
                // Letters, digits and signs: there is nothing to fail.
                page_policy: policy.unwrap_or(HeaderValue::from_static("default-src 'none'")),
            })
        })
    }
}

fn tag(text: &str) -> HeaderValue {
    use base64::Engine as _;
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(text);
    let tag = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&hash[..12]);
    HeaderValue::try_from(format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

fn answer(
    incoming: &Incoming,
    kind: &'static str,
    (body, tag): (&Bytes, &HeaderValue),
) -> Result<Response, ApiError> {
    let mut response = match etag::is_known(incoming.headers(), tag)? {
        true => axum::http::StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, kind)], body.clone()).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag.clone());
    headers.insert(header::CACHE_CONTROL, CACHE);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// `GET /openapi.json`.
pub(super) fn document(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    incoming.parameters()?;
    let texts = app.0.described.texts(app);
    answer(incoming, "application/json", (&texts.document, &texts.document_tag))
}

/// `GET /docs`: one page that loads nothing and runs nothing.
pub(super) fn page(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    incoming.parameters()?;
    let texts = app.0.described.texts(app);
    let mut response =
        answer(incoming, "text/html; charset=utf-8", (&texts.page, &texts.page_tag))?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, texts.page_policy.clone());
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    headers.insert(opener, HeaderValue::from_static("same-origin"));
    Ok(response)
}

#[cfg(test)]
pub(super) mod tests;

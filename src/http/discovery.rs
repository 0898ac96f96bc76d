//! `/.well-known/…`: who issues this cluster's tokens, where, and the public keys that sign them
//! (RFC 8414, OpenID Connect Discovery 1.0, RFC 7517). Public, and answered without a quorum.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::edge::Incoming;
use super::error::ApiError;
use super::{paths, propose};
use crate::access::{Caller, ClusterAction, Rules, decide};
use crate::model::Text;
use crate::registry::{Command, signing};

/// Longest `Host` that is repeated, in bytes.
const HOST_LEN_MAX: usize = 255;

/// A public key that tokens are signed with (RFC 7517, RFC 8037).
#[derive(Serialize, JsonSchema)]
struct Jwk<'a> {
    kty: &'static str,
    crv: &'static str,
    r#use: &'static str,
    alg: &'static str,
    kid: &'a Text,
    x: String,
}

/// The public keys that tokens are signed with.
#[derive(Serialize, JsonSchema)]
pub(super) struct Jwks<'a> {
    keys: Vec<Jwk<'a>>,
}

/// Who issues tokens, and where (RFC 8414).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "IssuerMetadata")]
pub(super) struct Metadata<'a> {
    issuer: &'a str,
    token_endpoint: String,
    jwks_uri: String,
    grant_types_supported: [&'static str; 1],
    /// None: there is no front channel.
    response_types_supported: Vec<&'static str>,
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 1],
    token_endpoint_auth_methods_supported: [&'static str; 2],
}

/// A key that was made.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NewSigningKey")]
pub(super) struct NewKey {
    kid: Text,
    /// In how many seconds it signs: until then it is published.
    signs_in_s: u64,
}

fn answer(body: &impl Serialize) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Shorter than a key is published before it signs (`registry::signing`).
    let cache = (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=30"));
    // Texts and numbers alone: there is nothing to fail.
    ([kind, cache], serde_json::to_vec(body).unwrap_or_default()).into_response()
}

/// `GET /.well-known/jwks.json`.
pub(super) fn jwks(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    incoming.parameters()?;
    let state = app.state();
    let keys = (state.signing.values())
        .map(|key| {
            let x = URL_SAFE_NO_PAD.encode(key.public);
            Jwk { kty: "OKP", crv: "Ed25519", r#use: "sig", alg: "EdDSA", kid: &key.kid, x }
        })
        .collect();
    Ok(answer(&Jwks { keys }))
}

/// `GET /.well-known/openid-configuration` and `/.well-known/oauth-authorization-server`.
pub(super) fn metadata(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    incoming.parameters()?;
    let issuer = app.0.desk.issuer();
    let base = base(app, incoming)?;
    Ok(answer(&Metadata {
        issuer,
        token_endpoint: format!("{base}/oauth/token"),
        jwks_uri: format!("{base}/.well-known/jwks.json"),
        grant_types_supported: ["client_credentials"],
        response_types_supported: vec![],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["EdDSA"],
        token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
    }))
}

/// Where clients reach this cluster.
fn base(app: &App, incoming: &Incoming) -> Result<String, ApiError> {
    let settings = &app.settings().access;
    let is_url = |text: &&str| text.starts_with("https://") || text.starts_with("http://");
    let issuer = Some(app.0.desk.issuer()).filter(is_url);
    if let Some(url) = settings.public_url.as_deref().or(issuer) {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    let host = incoming.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    // HTTP/2 names it in the request's line.
    let host = host.or_else(|| incoming.authority());
    let plain = |c: u8| c.is_ascii_alphanumeric() || b".-:[]_".contains(&c);
    let is_fit = |host: &&str| host.len() <= HOST_LEN_MAX && host.bytes().all(plain);
    let host = host.filter(is_fit).filter(|host| !host.is_empty()).ok_or_else(|| {
        ApiError::BadHeader { header: "Host", reason: "is missing, or is no host".to_owned() }
    })?;
    let scheme = if app.settings().tls.certificate_file.is_some() { "https" } else { "http" };
    Ok(format!("{scheme}://{host}"))
}

/// `POST /cluster/signing-keys`: a new key, which takes over once it was published long enough.
pub(super) async fn add_key(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    may_manage(app, incoming).await?;
    incoming.parameters()?;
    let key = {
        let (state, now) = (app.state(), app.0.env.clock.now());
        let unusable = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "a signing key cannot be made");
            ApiError::NotReady("this node cannot seal a key: its master key is missing".to_owned())
        };
        let kek = app.node().keyring().current(&state.generations).map_err(|e| unusable(&e))?;
        let mut rng = app.0.env.entropy.stream("signing-key");
        signing::make(kek, &mut rng, app.node().cluster_id(), now).map_err(|e| unusable(&e))?
    };
    let kid = key.kid.clone();
    let proposed = propose::decide(app, incoming, None, Command::AddSigningKey(key)).await?;
    let signs_in_s = signing::PUBLISHED_BEFORE.as_secs();
    let mut response = answer(&NewKey { kid, signs_in_s });
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    proposed.tell(incoming, response.headers_mut())?;
    Ok(response)
}

/// Asked before a key is made, and once more where it is applied.
async fn may_manage(app: &App, incoming: &Incoming) -> Result<(), ApiError> {
    let may = |caller: &Caller, rules: &Rules| {
        decide::cluster(caller, rules, ClusterAction::ManageCluster)
    };
    super::permit::permit(app, incoming, may).await.map(drop)
}

/// `DELETE /cluster/signing-keys/{kid}`: its tokens are not taken any more, from now on.
pub(super) async fn retire_key(app: &App, incoming: &Incoming) -> Result<Response, ApiError> {
    may_manage(app, incoming).await?;
    incoming.parameters()?;
    let kid = paths::kid(incoming.path())?;
    let command = Command::RetireSigningKey(Text::from(&*kid));
    let proposed = propose::decide(app, incoming, None, command).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    proposed.tell(incoming, response.headers_mut())?;
    Ok(response)
}

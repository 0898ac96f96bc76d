//! What can be asked for: each path's methods, and for each of them its name in metrics and logs
//! and whether it needs a token. One table, so that `Allow`, metrics and dispatch agree.

mod takes;

use std::sync::OnceLock;

use axum::http::{HeaderMap, Method, header};

use crate::telemetry::{Metrics, RouteMetrics};

/// A path's pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Documents,
    Document,
    Key,
    Versions,
    Version,
    Restore,
    Cluster,
    Receipts,
    Certificates,
    Audit,
    AuditVerify,
    Quorum,
    QuorumMember,
    Backup,
    Accounts,
    Account,
    Credentials,
    Credential,
    Roles,
    Role,
    KeyRoles,
    KeyRole,
    Explain,
    Secrets,
    Secret,
    Keys,
    RotateKeys,
    Generation,
    HistoryPolicies,
    HistoryPolicy,
    Health,
    Ready,
    Metrics,
    Token,
    Jwks,
    Discovery,
    OpenApi,
    Docs,
    SigningKeys,
    SigningKey,
    Unknown,
}

/// All paths.
pub(super) const ROUTES: [(&str, Route); 41] = [
    ("/config", Route::Documents),
    ("/config/{service}/{environment}", Route::Document),
    ("/config/{service}/{environment}/{key}", Route::Key),
    ("/config/{service}/{environment}/{key}/versions", Route::Versions),
    ("/config/{service}/{environment}/{key}/versions/{version}", Route::Version),
    ("/config/{service}/{environment}/{key}/restore", Route::Restore),
    ("/cluster", Route::Cluster),
    ("/cluster/receipts", Route::Receipts),
    ("/cluster/certificates", Route::Certificates),
    ("/audit", Route::Audit),
    ("/audit/verify", Route::AuditVerify),
    ("/cluster/quorum", Route::Quorum),
    ("/cluster/quorum/{change}/{node}", Route::QuorumMember),
    ("/cluster/backup", Route::Backup),
    ("/accounts", Route::Accounts),
    ("/accounts/{account}", Route::Account),
    ("/accounts/{account}/credentials", Route::Credentials),
    ("/accounts/{account}/credentials/{credential}", Route::Credential),
    ("/roles", Route::Roles),
    ("/roles/{role}", Route::Role),
    ("/config/{service}/{environment}/{key}/roles", Route::KeyRoles),
    ("/config/{service}/{environment}/{key}/roles/{role}", Route::KeyRole),
    ("/access/explain", Route::Explain),
    ("/secrets", Route::Secrets),
    ("/secrets/{secret}", Route::Secret),
    ("/cluster/keys", Route::Keys),
    ("/cluster/keys/rotate", Route::RotateKeys),
    ("/cluster/keys/{generation}", Route::Generation),
    ("/cluster/history", Route::HistoryPolicies),
    ("/cluster/history/{environment}", Route::HistoryPolicy),
    ("/healthz", Route::Health),
    ("/readyz", Route::Ready),
    ("/metrics", Route::Metrics),
    ("/oauth/token", Route::Token),
    ("/.well-known/jwks.json", Route::Jwks),
    ("/.well-known/openid-configuration", Route::Discovery),
    ("/.well-known/oauth-authorization-server", Route::Discovery),
    ("/openapi.json", Route::OpenApi),
    ("/docs", Route::Docs),
    ("/cluster/signing-keys", Route::SigningKeys),
    ("/cluster/signing-keys/{kid}", Route::SigningKey),
];

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    ListDocuments,
    ListKeys,
    Watch,
    Post,
    RemoveAll,
    GetKey,
    PutKey,
    PatchKey,
    RemoveKey,
    ListVersions,
    GetVersion,
    Restore,
    GetCluster,
    GetReceipts,
    GetCertificates,
    ListAudit,
    VerifyAudit,
    GetQuorum,
    ChangeQuorum,
    BackUp,
    ListAccounts,
    CreateAccount,
    GetAccount,
    UpdateAccount,
    DeleteAccount,
    AddCredential,
    RevokeCredential,
    ListRoles,
    CreateRole,
    GetRole,
    UpdateRole,
    DeleteRole,
    ListKeyRoles,
    BindRole,
    UnbindRole,
    ExplainAccess,
    PostSecret,
    ListSecrets,
    GetSecret,
    RemoveSecret,
    GetKeys,
    RotateKeys,
    RetireGeneration,
    GetHistoryPolicies,
    PutHistoryPolicy,
    RemoveHistoryPolicy,
    GetHealth,
    GetReady,
    GetMetrics,
    IssueToken,
    GetJwks,
    GetDiscovery,
    GetOpenApi,
    GetDocs,
    AddSigningKey,
    RetireSigningKey,
    Options,
    MethodNotAllowed,
    UnknownPath,
}

/// How many operations there are.
const OPERATIONS: usize = Operation::UnknownPath as usize + 1;

impl Route {
    /// Whether the path is that of [`Route::Key`]: told apart without the router.
    pub(super) fn is_key(path: &str) -> bool {
        let Some(names) = path.strip_prefix("/config/") else { return false };
        let (mut names_left, mut is_empty) = (3, true);
        for byte in names.bytes() {
            if byte != b'/' {
                is_empty = false;
            } else if std::mem::replace(&mut is_empty, true) || names_left == 1 {
                return false;
            } else {
                names_left -= 1;
            }
        }
        names_left == 1 && !is_empty
    }

    /// What this method asks of this path.
    pub(super) fn operation(self, method: &Method, headers: &HeaderMap) -> Operation {
        let is_read = *method == Method::GET || *method == Method::HEAD;
        match self {
            Self::Unknown => Operation::UnknownPath,
            _ if *method == Method::OPTIONS => Operation::Options,
            Self::Document if method.as_str() == "WATCH" => Operation::Watch,
            Self::Document if *method == Method::GET && wants_watch(headers) => Operation::Watch,
            Self::Document if *method == Method::POST => Operation::Post,
            Self::Document if *method == Method::DELETE => Operation::RemoveAll,
            Self::Key if *method == Method::PUT => Operation::PutKey,
            Self::Key if *method == Method::PATCH => Operation::PatchKey,
            Self::Key if *method == Method::DELETE => Operation::RemoveKey,
            Self::Restore if *method == Method::POST => Operation::Restore,
            Self::Restore => Operation::MethodNotAllowed,
            Self::Accounts if *method == Method::POST => Operation::CreateAccount,
            Self::Account if *method == Method::PATCH => Operation::UpdateAccount,
            Self::Account if *method == Method::DELETE => Operation::DeleteAccount,
            Self::Credentials if *method == Method::POST => Operation::AddCredential,
            Self::Credential if *method == Method::DELETE => Operation::RevokeCredential,
            Self::Roles if *method == Method::POST => Operation::CreateRole,
            Self::Role if *method == Method::PUT => Operation::UpdateRole,
            Self::Role if *method == Method::DELETE => Operation::DeleteRole,
            Self::KeyRole if *method == Method::PUT => Operation::BindRole,
            Self::KeyRole if *method == Method::DELETE => Operation::UnbindRole,
            Self::Credentials | Self::Credential | Self::KeyRole => Operation::MethodNotAllowed,
            Self::Token if *method == Method::POST => Operation::IssueToken,
            Self::SigningKeys if *method == Method::POST => Operation::AddSigningKey,
            Self::SigningKey if *method == Method::DELETE => Operation::RetireSigningKey,
            Self::Token | Self::SigningKeys | Self::SigningKey => Operation::MethodNotAllowed,
            Self::Secrets if *method == Method::POST => Operation::PostSecret,
            Self::Secret if *method == Method::DELETE => Operation::RemoveSecret,
            Self::RotateKeys if *method == Method::POST => Operation::RotateKeys,
            Self::RotateKeys => Operation::MethodNotAllowed,
            Self::Generation if *method == Method::DELETE => Operation::RetireGeneration,
            Self::Generation => Operation::MethodNotAllowed,
            Self::HistoryPolicies | Self::HistoryPolicy if *method == Method::PUT => {
                Operation::PutHistoryPolicy
            }
            Self::HistoryPolicies | Self::HistoryPolicy if *method == Method::DELETE => {
                Operation::RemoveHistoryPolicy
            }
            Self::HistoryPolicy => Operation::MethodNotAllowed,
            Self::QuorumMember if *method == Method::POST => Operation::ChangeQuorum,
            Self::QuorumMember => Operation::MethodNotAllowed,
            // It is a lot of work to say how long it is.
            Self::Backup if *method != Method::GET => Operation::MethodNotAllowed,
            _ if !is_read => Operation::MethodNotAllowed,
            Self::Documents => Operation::ListDocuments,
            Self::Document => Operation::ListKeys,
            Self::Key => Operation::GetKey,
            Self::Versions => Operation::ListVersions,
            Self::Version => Operation::GetVersion,
            Self::Cluster => Operation::GetCluster,
            Self::Receipts => Operation::GetReceipts,
            Self::Certificates => Operation::GetCertificates,
            Self::Audit => Operation::ListAudit,
            Self::AuditVerify => Operation::VerifyAudit,
            Self::Quorum => Operation::GetQuorum,
            Self::Backup => Operation::BackUp,
            Self::Accounts => Operation::ListAccounts,
            Self::Account => Operation::GetAccount,
            Self::Roles => Operation::ListRoles,
            Self::Role => Operation::GetRole,
            Self::KeyRoles => Operation::ListKeyRoles,
            Self::Explain => Operation::ExplainAccess,
            Self::Secrets => Operation::ListSecrets,
            Self::Secret => Operation::GetSecret,
            Self::Keys => Operation::GetKeys,
            Self::HistoryPolicies => Operation::GetHistoryPolicies,
            Self::Health => Operation::GetHealth,
            Self::Ready => Operation::GetReady,
            Self::Metrics => Operation::GetMetrics,
            Self::Jwks => Operation::GetJwks,
            Self::Discovery => Operation::GetDiscovery,
            Self::OpenApi => Operation::GetOpenApi,
            Self::Docs => Operation::GetDocs,
        }
    }

    /// The methods it takes, as `Allow` lists them.
    pub(super) fn allow(self) -> &'static str {
        match self {
            Self::Document => "GET, HEAD, POST, DELETE, WATCH, OPTIONS",
            Self::Key => "GET, HEAD, PUT, PATCH, DELETE, OPTIONS",
            Self::Restore
            | Self::Credentials
            | Self::Token
            | Self::SigningKeys
            | Self::RotateKeys
            | Self::QuorumMember => "POST, OPTIONS",
            Self::Accounts | Self::Roles => "GET, HEAD, POST, OPTIONS",
            Self::Account => "GET, HEAD, PATCH, DELETE, OPTIONS",
            Self::Role | Self::HistoryPolicies => "GET, HEAD, PUT, DELETE, OPTIONS",
            Self::KeyRole | Self::HistoryPolicy => "PUT, DELETE, OPTIONS",
            Self::Credential => "DELETE, OPTIONS",
            Self::Backup => "GET, OPTIONS",
            Self::SigningKey => "DELETE, OPTIONS",
            Self::Secrets => "GET, HEAD, POST, OPTIONS",
            Self::Secret => "GET, HEAD, DELETE, OPTIONS",
            Self::Generation => "DELETE, OPTIONS",
            Self::Documents
            | Self::Versions
            | Self::Version
            | Self::Cluster
            | Self::Receipts
            | Self::Certificates
            | Self::Audit
            | Self::AuditVerify
            | Self::Quorum
            | Self::KeyRoles
            | Self::Explain
            | Self::Keys
            | Self::Health
            | Self::Ready
            | Self::Metrics
            | Self::Jwks
            | Self::Discovery
            | Self::OpenApi
            | Self::Docs
            | Self::Unknown => "GET, HEAD, OPTIONS",
        }
    }
}

fn wants_watch(headers: &HeaderMap) -> bool {
    lists(headers, &header::ACCEPT, "text/event-stream") || wants_websocket(headers)
}

/// Whether the request asks to go on as a WebSocket.
pub(super) fn wants_websocket(headers: &HeaderMap) -> bool {
    lists(headers, &header::UPGRADE, "websocket")
}

/// Whether a header that is a list has this among its items, whatever their parameters.
fn lists(headers: &HeaderMap, name: &header::HeaderName, text: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|part| part.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(text))
}

impl Operation {
    /// How metrics and logs call it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::ListDocuments => "GET /config",
            Self::ListKeys => "GET /config/{service}/{environment}",
            Self::Watch => "WATCH /config/{service}/{environment}",
            Self::Post => "POST /config/{service}/{environment}",
            Self::RemoveAll => "DELETE /config/{service}/{environment}",
            Self::GetKey => "GET /config/{service}/{environment}/{key}",
            Self::PutKey => "PUT /config/{service}/{environment}/{key}",
            Self::PatchKey => "PATCH /config/{service}/{environment}/{key}",
            Self::RemoveKey => "DELETE /config/{service}/{environment}/{key}",
            Self::ListVersions => "GET /config/{service}/{environment}/{key}/versions",
            Self::GetVersion => "GET /config/{service}/{environment}/{key}/versions/{version}",
            Self::Restore => "POST /config/{service}/{environment}/{key}/restore",
            Self::GetCluster => "GET /cluster",
            Self::GetReceipts => "GET /cluster/receipts",
            Self::GetCertificates => "GET /cluster/certificates",
            Self::ListAudit => "GET /audit",
            Self::VerifyAudit => "GET /audit/verify",
            Self::GetQuorum => "GET /cluster/quorum",
            Self::ChangeQuorum => "POST /cluster/quorum/{change}/{node}",
            Self::BackUp => "GET /cluster/backup",
            Self::ListAccounts => "GET /accounts",
            Self::CreateAccount => "POST /accounts",
            Self::GetAccount => "GET /accounts/{account}",
            Self::UpdateAccount => "PATCH /accounts/{account}",
            Self::DeleteAccount => "DELETE /accounts/{account}",
            Self::AddCredential => "POST /accounts/{account}/credentials",
            Self::RevokeCredential => "DELETE /accounts/{account}/credentials/{credential}",
            Self::ListRoles => "GET /roles",
            Self::CreateRole => "POST /roles",
            Self::GetRole => "GET /roles/{role}",
            Self::UpdateRole => "PUT /roles/{role}",
            Self::DeleteRole => "DELETE /roles/{role}",
            Self::ListKeyRoles => "GET /config/{service}/{environment}/{key}/roles",
            Self::BindRole => "PUT /config/{service}/{environment}/{key}/roles/{role}",
            Self::UnbindRole => "DELETE /config/{service}/{environment}/{key}/roles/{role}",
            Self::ExplainAccess => "GET /access/explain",
            Self::PostSecret => "POST /secrets",
            Self::ListSecrets => "GET /secrets",
            Self::GetSecret => "GET /secrets/{secret}",
            Self::RemoveSecret => "DELETE /secrets/{secret}",
            Self::GetKeys => "GET /cluster/keys",
            Self::RotateKeys => "POST /cluster/keys/rotate",
            Self::RetireGeneration => "DELETE /cluster/keys/{generation}",
            Self::GetHistoryPolicies => "GET /cluster/history",
            Self::PutHistoryPolicy => "PUT /cluster/history/{environment}",
            Self::RemoveHistoryPolicy => "DELETE /cluster/history/{environment}",
            Self::GetHealth => "GET /healthz",
            Self::GetReady => "GET /readyz",
            Self::GetMetrics => "GET /metrics",
            Self::IssueToken => "POST /oauth/token",
            Self::GetJwks => "GET /.well-known/jwks.json",
            Self::GetDiscovery => "GET /.well-known/openid-configuration",
            Self::GetOpenApi => "GET /openapi.json",
            Self::GetDocs => "GET /docs",
            Self::AddSigningKey => "POST /cluster/signing-keys",
            Self::RetireSigningKey => "DELETE /cluster/signing-keys/{kid}",
            Self::Options => "OPTIONS",
            Self::MethodNotAllowed => "method not allowed",
            Self::UnknownPath => "unknown path",
        }
    }

    /// Its method and its path's pattern; `other` and a word where it has none of these.
    pub(super) fn method_and_route(self) -> (&'static str, &'static str) {
        match self {
            Self::Options => ("OPTIONS", "any"),
            Self::MethodNotAllowed | Self::UnknownPath => ("other", self.label()),
            _ => self.label().split_once(' ').unwrap_or(("other", self.label())),
        }
    }

    /// Whether it needs a token.
    pub(super) fn needs_token(self, metrics_public: bool) -> bool {
        match self {
            Self::GetHealth
            | Self::GetReady
            | Self::IssueToken
            | Self::GetJwks
            | Self::GetDiscovery
            | Self::GetOpenApi
            | Self::GetDocs
            | Self::Options
            | Self::MethodNotAllowed
            | Self::UnknownPath => false,
            Self::GetMetrics => !metrics_public,
            _ => true,
        }
    }

    /// Whether it is about configurations: decided by this node's copy of the rules.
    pub(super) fn is_config(self) -> bool {
        matches!(
            self,
            Self::ListDocuments
                | Self::ListKeys
                | Self::Watch
                | Self::Post
                | Self::RemoveAll
                | Self::GetKey
                | Self::PutKey
                | Self::PatchKey
                | Self::RemoveKey
                | Self::ListVersions
                | Self::GetVersion
                | Self::Restore
        )
    }

    /// Whether it changes nothing: its success need not be logged.
    pub(super) fn is_read(self) -> bool {
        !matches!(
            self,
            Self::Post
                | Self::RemoveAll
                | Self::PutKey
                | Self::PatchKey
                | Self::RemoveKey
                | Self::Restore
                | Self::CreateAccount
                | Self::UpdateAccount
                | Self::DeleteAccount
                | Self::AddCredential
                | Self::RevokeCredential
                | Self::CreateRole
                | Self::UpdateRole
                | Self::DeleteRole
                | Self::BindRole
                | Self::UnbindRole
                | Self::IssueToken
                | Self::AddSigningKey
                | Self::RetireSigningKey
                | Self::PostSecret
                | Self::RemoveSecret
                | Self::RotateKeys
                | Self::RetireGeneration
                | Self::PutHistoryPolicy
                | Self::RemoveHistoryPolicy
                | Self::ChangeQuorum
        )
    }
}

/// Each operation's metrics, registered when it is first asked for.
pub(super) struct OperationMetrics([OnceLock<RouteMetrics>; OPERATIONS]);

impl Default for OperationMetrics {
    fn default() -> Self {
        Self(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl OperationMetrics {
    pub(super) fn of(&self, operation: Operation, metrics: &Metrics) -> &RouteMetrics {
        self.0[operation as usize].get_or_init(|| {
            let (method, route) = operation.method_and_route();
            metrics.route(method, route)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_allows_is_what_it_does() {
        let methods =
            ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "WATCH", "OPTIONS", "TRACE", "get"];
        for (path, route) in ROUTES {
            for method in methods {
                let allowed = route.allow().split(", ").any(|allowed| allowed == method);
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let operation = route.operation(&method, &HeaderMap::new());
                let refused = operation == Operation::MethodNotAllowed;
                assert_eq!(allowed, !refused, "{method} {path}");
            }
        }
    }

    #[tokio::test]
    async fn the_router_and_who_goes_past_it_agree_on_what_is_a_key() {
        use axum::{Router, body::Body, http::Request, routing::any};
        use tower::ServiceExt as _;
        let mut router = Router::<()>::new();
        for (path, route) in ROUTES {
            let name = format!("{route:?}");
            router = router.route(path, any(move || std::future::ready(name)));
        }
        let parts = ["", "config", "a", "b.c", "k%2Fl", "versions", "roles"];
        let mut keys = 0;
        for at in 0..parts.len().pow(5) {
            let part = |place: u32| parts[at / parts.len().pow(place) % parts.len()];
            let path = (0..5).fold(String::new(), |path, place| format!("{path}/{}", part(place)));
            for path in [&path, path.trim_end_matches('/')] {
                let path = if path.is_empty() { "/" } else { path };
                let request = Request::get(path).body(Body::empty()).unwrap();
                let answer = router.clone().oneshot(request).await.unwrap();
                let name = axum::body::to_bytes(answer.into_body(), 100).await.unwrap();
                // Names that are empty are the router's to find, and refused behind it.
                let is_key = name == "Key" && !path.contains("//");
                assert_eq!(Route::is_key(path), is_key, "{path}");
                keys += usize::from(name == "Key");
            }
        }
        assert!(keys > 100, "{keys}");
    }

    #[test]
    fn a_watch_is_asked_for_by_method_accept_or_upgrade() {
        let with = |name, value: &'static str| {
            let headers = HeaderMap::from_iter([(name, value.parse().unwrap())]);
            Route::Document.operation(&Method::GET, &headers)
        };
        let accept = with(header::ACCEPT, "application/json, Text/Event-Stream;q=0.5");
        assert_eq!(accept, Operation::Watch);
        assert_eq!(with(header::UPGRADE, "WebSocket"), Operation::Watch);
        assert_eq!(with(header::ACCEPT, "*/*"), Operation::ListKeys);
        let watch = Method::from_bytes(b"WATCH").unwrap();
        assert_eq!(Route::Document.operation(&watch, &HeaderMap::new()), Operation::Watch);
    }
}

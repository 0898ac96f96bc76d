//! What each operation takes beside its path and its body: its query's parameters, and the headers
//! that it heeds. What is not named here is refused as a parameter, and described nowhere.

use super::{Operation, Route};

/// How new a read of the quorum path has to be.
const NEW: &[&str] = &["consistency", "max_staleness_ms"];

impl Operation {
    /// The names of the parameters that its query may have.
    pub(in crate::http) fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::ListDocuments | Self::ListVersions => &["size", "cursor"],
            Self::ListKeys => {
                &["size", "cursor", "prefix", "resolve", "consistency", "max_staleness_ms"]
            }
            Self::Watch => &["prefix", "since"],
            Self::RemoveAll => &["message"],
            Self::GetKey => &["resolve", "consistency", "max_staleness_ms"],
            Self::PutKey | Self::PatchKey | Self::RemoveKey => &["message", "expect_version"],
            Self::Restore | Self::RemoveSecret => &["expect_version"],
            Self::GetReceipts => &["session"],
            Self::ListAudit => &[
                "size",
                "cursor",
                "from",
                "to",
                "principal",
                "action",
                "target",
                "decision",
                "node",
            ],
            Self::ListAccounts | Self::ListRoles | Self::ListSecrets => {
                &["size", "cursor", "consistency", "max_staleness_ms"]
            }
            Self::GetAccount
            | Self::GetRole
            | Self::ListKeyRoles
            | Self::GetKeys
            | Self::GetHistoryPolicies => NEW,
            Self::ExplainAccess => {
                &["account", "action", "resource", "consistency", "max_staleness_ms"]
            }
            Self::GetSecret => &["reveal", "version", "consistency", "max_staleness_ms"],
            Self::Post
            | Self::GetVersion
            | Self::GetCluster
            | Self::GetCertificates
            | Self::VerifyAudit
            | Self::GetQuorum
            | Self::ChangeQuorum
            | Self::BackUp
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
            | Self::PostSecret
            | Self::RotateKeys
            | Self::RetireGeneration
            | Self::PutHistoryPolicy
            | Self::RemoveHistoryPolicy
            | Self::GetHealth
            | Self::GetReady
            | Self::GetMetrics
            | Self::IssueToken
            | Self::GetJwks
            | Self::GetDiscovery
            | Self::GetOpenApi
            | Self::GetDocs
            | Self::AddSigningKey
            | Self::RetireSigningKey
            | Self::Options
            | Self::MethodNotAllowed
            | Self::UnknownPath => &[],
        }
    }

    /// Whether it heeds what its client has seen.
    pub(in crate::http) fn takes_session(self) -> bool {
        let is_decided = !self.is_read() && !matches!(self, Self::IssueToken | Self::ChangeQuorum);
        self.is_config() || is_decided || self.parameters().contains(&"consistency")
    }

    /// The request's headers that it heeds, beside `Authorization` and those that all do.
    pub(in crate::http) fn headers(self) -> Vec<&'static str> {
        let mut names = match self.takes_session() {
            true => vec!["Holm-Session", "Holm-Wait"],
            false => vec![],
        };
        if self.is_config() {
            names.push("Holm-Inconsistent");
        }
        match self {
            Self::Watch => names.push("Last-Event-ID"),
            Self::GetKey | Self::GetSecret => names.push("If-None-Match"),
            Self::UpdateAccount | Self::DeleteAccount | Self::UpdateRole | Self::DeleteRole => {
                names.extend(["If-Match", "If-None-Match"]);
            }
            Self::PostSecret | Self::RemoveSecret => {
                names.extend(["If-Match", "If-None-Match", "Idempotency-Key"]);
            }
            // Of all keys nothing can be expected.
            Self::RemoveAll => names.extend(["Holm-Ack", "Idempotency-Key"]),
            _ if self.is_config() && !self.is_read() => {
                names.extend(["Holm-Ack", "If-Match", "If-None-Match", "Idempotency-Key"]);
            }
            _ => {}
        }
        names
    }
}

impl Route {
    /// The names in its pattern, in their order.
    pub(in crate::http) fn names(pattern: &str) -> impl Iterator<Item = &str> {
        let segments = pattern.split('/');
        segments.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }
}

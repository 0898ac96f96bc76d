//! Accounts, roles, and the log of who did what.

use super::{Body, MERGE_PATCH, NO_CONTENT, Row, maybe, object, of, ok};
use crate::access::explain::Explanation;
use crate::http::accounts::{AccountChange, NewAccount, Shown as Account};
use crate::http::audit::{Listed, Verified};
use crate::http::credentials::{Answer as NewCredential, CredentialWish};
use crate::http::key_roles::Answer as BoundRoles;
use crate::http::openapi::errors::BodyKind;
use crate::http::operation::Operation;
use crate::http::page::Page;
use crate::http::roles::{NewRole, RoleChange, Shown as Role};

const SEE: &[&str] = &["access:read"];
const MANAGE: &[&str] = &["access:manage"];

pub(super) const ROWS: &[Row] = &[
    Row {
        operation: Operation::ListAccounts,
        id: "listAccounts",
        summary: "All accounts",
        text: "",
        needs: SEE,
        body: None,
        answers: &[ok::<Page<Account>>(200, "A page, in the order of names.")],
    },
    Row {
        operation: Operation::CreateAccount,
        id: "createAccount",
        summary: "Make an account",
        text: "With a first client secret, which is shown this once, unless `credential` is false.",
        needs: MANAGE,
        body: object::<NewAccount>(),
        answers: &[ok::<Account>(201, "It is there.")],
    },
    Row {
        operation: Operation::GetAccount,
        id: "getAccount",
        summary: "One account",
        text: "",
        needs: SEE,
        body: None,
        answers: &[ok::<Account>(200, "It is this.")],
    },
    Row {
        operation: Operation::UpdateAccount,
        id: "updateAccount",
        summary: "Enable or disable an account, or give it other roles",
        text: "",
        needs: MANAGE,
        body: Some(Body {
            kinds: MERGE_PATCH,
            schema: of::<AccountChange>(),
            is_required: true,
            taken_apart: BodyKind::Fields,
        }),
        answers: &[ok::<Account>(200, "It is this now.")],
    },
    Row {
        operation: Operation::DeleteAccount,
        id: "deleteAccount",
        summary: "Remove an account, and with it its tokens",
        text: "",
        needs: MANAGE,
        body: None,
        answers: NO_CONTENT,
    },
    Row {
        operation: Operation::AddCredential,
        id: "addCredential",
        summary: "Make one more client secret for an account",
        text: "It is shown this once.",
        needs: MANAGE,
        body: maybe::<CredentialWish>(),
        answers: &[ok::<NewCredential>(201, "It is there.")],
    },
    Row {
        operation: Operation::RevokeCredential,
        id: "revokeCredential",
        summary: "Take a client secret back, and with it the tokens that were issued for it",
        text: "",
        needs: MANAGE,
        body: None,
        answers: NO_CONTENT,
    },
    Row {
        operation: Operation::ListRoles,
        id: "listRoles",
        summary: "All roles",
        text: "",
        needs: SEE,
        body: None,
        answers: &[ok::<Page<Role>>(200, "A page, in the order of names.")],
    },
    Row {
        operation: Operation::CreateRole,
        id: "createRole",
        summary: "Make a role",
        text: "",
        needs: MANAGE,
        body: object::<NewRole>(),
        answers: &[ok::<Role>(201, "It is there.")],
    },
    Row {
        operation: Operation::GetRole,
        id: "getRole",
        summary: "One role",
        text: "",
        needs: SEE,
        body: None,
        answers: &[ok::<Role>(200, "It is this.")],
    },
    Row {
        operation: Operation::UpdateRole,
        id: "updateRole",
        summary: "Give a role other grants",
        text: "",
        needs: MANAGE,
        body: object::<RoleChange>(),
        answers: &[ok::<Role>(200, "It is this now.")],
    },
    Row {
        operation: Operation::DeleteRole,
        id: "deleteRole",
        summary: "Remove a role",
        text: "",
        needs: MANAGE,
        body: None,
        answers: NO_CONTENT,
    },
    Row {
        operation: Operation::ListKeyRoles,
        id: "listKeyRoles",
        summary: "The roles that a configuration is bound to",
        text: "Where there are any, only who has one of them may change it.",
        needs: SEE,
        body: None,
        answers: &[ok::<BoundRoles<'static>>(200, "They are these.")],
    },
    Row {
        operation: Operation::BindRole,
        id: "bindRole",
        summary: "Bind a configuration to a role",
        text: "",
        needs: MANAGE,
        body: None,
        answers: NO_CONTENT,
    },
    Row {
        operation: Operation::UnbindRole,
        id: "unbindRole",
        summary: "Unbind a configuration from a role",
        text: "",
        needs: MANAGE,
        body: None,
        answers: NO_CONTENT,
    },
    Row {
        operation: Operation::ExplainAccess,
        id: "explainAccess",
        summary: "Why an account may do something, or may not",
        text: "",
        needs: SEE,
        body: None,
        answers: &[ok::<Explanation>(200, "In words.")],
    },
    Row {
        operation: Operation::ListAudit,
        id: "listAudit",
        summary: "The cluster's audit log, newest first",
        text: "`follow_cursor` asks for what comes after it, again and again.",
        needs: &["audit:read"],
        body: None,
        answers: &[ok::<Listed>(200, "A page.")],
    },
    Row {
        operation: Operation::VerifyAudit,
        id: "verifyAudit",
        summary: "Whether this node's part of the audit log is whole",
        text: "",
        needs: &["audit:read"],
        body: None,
        answers: &[ok::<Verified<'static>>(200, "What was found.")],
    },
];

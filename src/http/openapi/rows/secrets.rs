//! Secrets.

use super::{NO_CONTENT, Row, nothing, object, ok};
use crate::http::operation::Operation;
use crate::http::page::Page;
use crate::http::secrets::{Columns, NewSecret, Put};

pub(super) const ROWS: &[Row] = &[
    Row {
        operation: Operation::PostSecret,
        id: "postSecret",
        summary: "Keep a secret, or a known one's next version",
        text: "The server seals the value. Decided by the quorum: in force everywhere once it is answered.",
        needs: &["secrets:write"],
        body: object::<NewSecret>(),
        answers: &[
            ok::<Put<'static>>(200, "A new version."),
            ok::<Put<'static>>(201, "A new secret."),
        ],
    },
    Row {
        operation: Operation::ListSecrets,
        id: "listSecrets",
        summary: "All secrets that the caller may see, without their values",
        text: "",
        needs: &["secrets:read"],
        body: None,
        answers: &[ok::<Page<Columns<'static>>>(200, "A page, in the order of names.")],
    },
    Row {
        operation: Operation::GetSecret,
        id: "getSecret",
        summary: "One secret",
        text: "With its value for whoever has `secrets:reveal`; that is on the audit log before it is \
               sent. With `reveal=false` nobody is shown it; with `reveal=true` whoever may not is refused.",
        needs: &["secrets:read"],
        body: None,
        answers: &[ok::<Columns<'static>>(200, "It is this."), nothing(304, "The client has it.")],
    },
    Row {
        operation: Operation::RemoveSecret,
        id: "removeSecret",
        summary: "Remove a secret with all of its versions",
        text: "",
        needs: &["secrets:delete"],
        body: None,
        answers: NO_CONTENT,
    },
];

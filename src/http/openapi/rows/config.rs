//! Configurations.

use super::{Answer, Body, JSON, MERGE_PATCH, Row, nothing, object, of, ok};
use crate::http::ack::Written;
use crate::http::body::{Posted, Restoration};
use crate::http::config_list::Shown as Document;
use crate::http::config_write::{Items, Removed};
use crate::http::item::{Past as PastEntry, Rendered};
use crate::http::openapi::errors::BodyKind;
use crate::http::operation::Operation;
use crate::http::page::Page;
use crate::http::versions::Past as History;
use crate::model::JsonText;

type Item = Rendered<'static>;

const READ: &[&str] = &["config:read"];
const WRITE: &[&str] = &["config:write"];

const WRITTEN: &[Answer] = &[
    ok::<Written<Item>>(200, "It was there, and is this now."),
    ok::<Written<Item>>(201, "It is new."),
    ok::<Written<Item>>(202, "Written, but not yet in as many regions as `Holm-Ack` asked for."),
];

const CHECK: &str = "Checks (`If-Match`, `If-None-Match: *`, `expect_version`) are made at this node \
                     alone, and the answer says so (`Holm-Check: local`): a write elsewhere at the same \
                     time shows as a conflict.";

pub(super) const ROWS: &[Row] = &[
    Row {
        operation: Operation::ListDocuments,
        id: "listDocuments",
        summary: "Services and environments that have keys",
        text: "As far as the caller may read them; whoever may read nothing gets an empty page.",
        needs: &[],
        body: None,
        answers: &[ok::<Page<Document<'static>>>(200, "A page, in the order of names.")],
    },
    Row {
        operation: Operation::ListKeys,
        id: "listConfigurations",
        summary: "All configurations of a service in an environment; or a watch",
        text: "In pages, in the order of keys. With `Accept: text/event-stream`, or as a WebSocket, it \
               is a watch: see `x-watch`. Parameters of the one are refused by the other.",
        needs: READ,
        body: None,
        answers: &[ok::<Page<Item>>(200, "A page; or, to who accepts it, a watch.")],
    },
    Row {
        operation: Operation::Watch,
        id: "watchConfigurations",
        summary: "What is there, and then what changes",
        text: "Server-sent events: `put` and `remove` with a configuration, `ready` once all that is \
               there was sent, `reset` where the client has to forget what it has, `moved` as the last \
               one, with where to go. The `id` of an event is a session: sent back as `Last-Event-ID` or \
               `since`, the watch goes on behind it, at any node. Over a WebSocket each message is one \
               object with `event`, `data` and `id`. Asked for by the method `WATCH`, by GET with \
               `Accept: text/event-stream`, or by GET with a WebSocket's upgrade.",
        needs: READ,
        body: None,
        answers: &[
            nothing(101, "A WebSocket."),
            Answer {
                status: 200,
                text: "Events.",
                body: Some(("text/event-stream", of::<String>())),
            },
        ],
    },
    Row {
        operation: Operation::Post,
        id: "postConfigurations",
        summary: "Save or update one configuration, or several together",
        text: "One key with its value, or `entries`: all of them in one change, or none. `If-Match` is for \
               one key; entries have their own `expect_version`.",
        needs: WRITE,
        body: object::<Posted>(),
        answers: &[
            ok::<Written<Items>>(200, "All keys were there, and are this now."),
            ok::<Written<Items>>(201, "At least one key is new."),
            ok::<Written<Items>>(202, "Written, but not yet in as many regions as asked for."),
        ],
    },
    Row {
        operation: Operation::RemoveAll,
        id: "removeConfigurations",
        summary: "Remove all configurations of a service in an environment",
        text: "Those that this node sees, in one change.",
        needs: WRITE,
        body: None,
        answers: &[
            ok::<Written<Removed>>(200, "How many were removed."),
            ok::<Written<Removed>>(202, "The same, but not yet in as many regions as asked for."),
        ],
    },
    Row {
        operation: Operation::GetKey,
        id: "getConfiguration",
        summary: "One configuration",
        text: "With its conflicts: what was written elsewhere at the same time and does not show.",
        needs: READ,
        body: None,
        answers: &[ok::<Item>(200, "It is this."), nothing(304, "The client has it.")],
    },
    Row {
        operation: Operation::PutKey,
        id: "putConfiguration",
        summary: "Save or update one configuration: the body is the value",
        text: CHECK,
        needs: WRITE,
        body: Some(Body {
            kinds: JSON,
            schema: of::<JsonText>(),
            is_required: true,
            taken_apart: BodyKind::Value,
        }),
        answers: WRITTEN,
    },
    Row {
        operation: Operation::PatchKey,
        id: "patchConfiguration",
        summary: "Merge into one configuration (RFC 7396)",
        text: CHECK,
        needs: WRITE,
        body: Some(Body {
            kinds: MERGE_PATCH,
            schema: of::<JsonText>(),
            is_required: true,
            taken_apart: BodyKind::Value,
        }),
        answers: WRITTEN,
    },
    Row {
        operation: Operation::RemoveKey,
        id: "removeConfiguration",
        summary: "Remove one configuration",
        text: CHECK,
        needs: WRITE,
        body: None,
        answers: &[
            ok::<Written<Item>>(200, "It is removed; the answer is the removal."),
            ok::<Written<Item>>(202, "The same, but not yet in as many regions as asked for."),
        ],
    },
    Row {
        operation: Operation::ListVersions,
        id: "listVersions",
        summary: "A configuration's history, newest first",
        text: "Every write of the key that is kept, those of a removed one too.",
        needs: READ,
        body: None,
        answers: &[ok::<History>(200, "A page.")],
    },
    Row {
        operation: Operation::GetVersion,
        id: "getVersion",
        summary: "One version of a configuration",
        text: "",
        needs: READ,
        body: None,
        answers: &[ok::<PastEntry<'static>>(200, "It was this.")],
    },
    Row {
        operation: Operation::Restore,
        id: "restoreVersion",
        summary: "Write an old value again, as a new version",
        text: "",
        needs: &["config:read", "config:write"],
        body: object::<Restoration>(),
        answers: WRITTEN,
    },
];

//! The cluster.

use super::{Answer, NO_CONTENT, Row, maybe, object, of, ok};
use crate::http::cluster::{Certificates, Receipts};
use crate::http::discovery::NewKey;
use crate::http::history::{Answer as Policies, Policy};
use crate::http::keys::{Keys, Rotation, Step};
use crate::http::operation::Operation;
use crate::node::ClusterStatus;
use crate::quorum::QuorumStatus;

const SEE: &[&str] = &["cluster:read"];
const RUN: &[&str] = &["cluster:manage"];

pub(super) const ROWS: &[Row] = &[
    Row {
        operation: Operation::GetCluster,
        id: "getCluster",
        summary: "The cluster, as this node sees it",
        text: "",
        needs: SEE,
        body: None,
        answers: &[ok::<ClusterStatus>(200, "It is this.")],
    },
    Row {
        operation: Operation::GetReceipts,
        id: "getReceipts",
        summary: "Which regions have a write",
        text: "",
        needs: &[],
        body: None,
        answers: &[ok::<Receipts>(200, "Each region.")],
    },
    Row {
        operation: Operation::GetCertificates,
        id: "getCertificates",
        summary: "Which certificates the nodes show, and whom they believe",
        text: "",
        needs: SEE,
        body: None,
        answers: &[ok::<Certificates>(200, "Each node.")],
    },
    Row {
        operation: Operation::GetQuorum,
        id: "getQuorum",
        summary: "The quorum, as this node sees it",
        text: "",
        needs: SEE,
        body: None,
        answers: &[ok::<QuorumStatus>(200, "It is this.")],
    },
    Row {
        operation: Operation::ChangeQuorum,
        id: "changeQuorum",
        summary: "Add a voter, remove one, or make one the leader",
        text: "",
        needs: RUN,
        body: None,
        answers: &[ok::<QuorumStatus>(200, "It is this now.")],
    },
    Row {
        operation: Operation::BackUp,
        id: "backUp",
        summary: "Both of this node's stores, in one stream",
        text: "What is sealed stays sealed. A stream that breaks off lacks its end, and `holm restore` says so.",
        needs: &["cluster:backup"],
        body: None,
        answers: &[Answer {
            status: 200,
            text: "The stream.",
            body: Some(("application/vnd.holm.backup", of::<super::Bytes>())),
        }],
    },
    Row {
        operation: Operation::GetKeys,
        id: "getKeys",
        summary: "Generations of the master key, and what each wraps",
        text: "Never a key.",
        needs: SEE,
        body: None,
        answers: &[ok::<Keys>(200, "They are these.")],
    },
    Row {
        operation: Operation::RotateKeys,
        id: "rotateKeys",
        summary: "The next step of a rotation of the master key",
        text: "To be asked again until `left` is 0.",
        needs: RUN,
        body: maybe::<Rotation>(),
        answers: &[ok::<Step>(200, "What was done and what is left.")],
    },
    Row {
        operation: Operation::RetireGeneration,
        id: "retireGeneration",
        summary: "Forget a generation of the master key that wraps nothing",
        text: "",
        needs: RUN,
        body: None,
        answers: NO_CONTENT,
    },
    Row {
        operation: Operation::GetHistoryPolicies,
        id: "getHistoryPolicies",
        summary: "How much of histories is kept",
        text: "",
        needs: SEE,
        body: None,
        answers: &[ok::<Policies<'static>>(200, "They are these.")],
    },
    Row {
        operation: Operation::PutHistoryPolicy,
        id: "putHistoryPolicy",
        summary: "Say how much of histories is kept",
        text: "For one environment, or for all that have no policy of their own.",
        needs: RUN,
        body: object::<Policy>(),
        answers: NO_CONTENT,
    },
    Row {
        operation: Operation::RemoveHistoryPolicy,
        id: "removeHistoryPolicy",
        summary: "As before a policy of histories was set",
        text: "",
        needs: RUN,
        body: None,
        answers: NO_CONTENT,
    },
    Row {
        operation: Operation::AddSigningKey,
        id: "addSigningKey",
        summary: "Make a key that signs tokens",
        text: "It takes over once it was published long enough.",
        needs: RUN,
        body: None,
        answers: &[ok::<NewKey>(201, "It is published.")],
    },
    Row {
        operation: Operation::RetireSigningKey,
        id: "retireSigningKey",
        summary: "Take no more tokens that this key signed",
        text: "",
        needs: RUN,
        body: None,
        answers: NO_CONTENT,
    },
];

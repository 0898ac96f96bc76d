//! Checking a chain: along its records from the first to the head that the store names, and against
//! the heads that peers remember of it, which alone show that a tail was cut off.

use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chain::{ChainHash, Head};
use super::reader::{ChainReader, Unreadable};
use crate::model::Text;

/// A head that somebody remembers of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Who.
    pub by: Text,
    /// What it was.
    pub head: Head,
}

/// What checking a chain came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ChainReport")]
pub struct Report {
    /// Whose store: `config` or `quorum`.
    pub store: String,
    /// How many records were found good, from the first that is kept on.
    pub records: u64,
    /// How many records before them are not kept any more, as with a copy that reached its limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub let_go: u64,
    /// The hash of the last of them, in hexadecimal.
    pub hash: String,
    /// The hash that the first record kept follows from, where there are some before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// How many heads that others remember were compared.
    pub witnesses: u64,
    /// What is wrong, in words; empty where all is well.
    pub findings: Vec<String>,
}

/// Goes along `chain` and compares it with what `witnesses` remember.
pub fn verify(
    store: &str,
    chain: &dyn ChainReader,
    witnesses: &[Witness],
) -> Result<Report, Unreadable> {
    // Before the walk: meanwhile the chain may grow.
    let named = chain.head()?;
    let base = chain.base()?;
    let mut head = base;
    let mut findings = Vec::new();
    // What is remembered of records that are not here any more says nothing of those that are.
    let witnesses: Vec<&Witness> =
        witnesses.iter().filter(|witness| witness.head.seq >= base.seq).collect();
    for Witness { by, head: known } in &witnesses {
        if known.seq == base.seq && known.hash != base.hash && base.seq > 0 {
            let seq = base.seq;
            findings.push(format!(
                "record {seq}, which the store goes on from, is not the one that {by} remembers"
            ));
        }
    }
    chain.walk(base.seq + 1, &mut |bytes| {
        if let Err(error) = head.follow(bytes) {
            findings.push(error.to_string());
            return ControlFlow::Break(());
        }
        let differs = |known: &Head| known.seq == head.seq && known.hash != head.hash;
        for Witness { by, head: known } in &witnesses {
            if differs(known) {
                let seq = known.seq;
                findings.push(format!(
                    "record {seq} is not the one that {by} remembers: the chain was cut off and \
                     goes on another way, as after an old copy of the store was put back"
                ));
            }
        }
        if differs(&named) {
            findings.push(format!("record {} is not the one that the store names", named.seq));
        }
        ControlFlow::Continue(())
    })?;
    if findings.is_empty() && head.seq < named.seq {
        let (last, named) = (head.seq, named.seq);
        findings.push(format!("the chain ends with record {last}; the store names {named}"));
    }
    for Witness { by, head: known } in witnesses.iter().filter(|it| it.head.seq > head.seq) {
        let (last, seq) = (head.seq, known.seq);
        let how = "the tail is missing, as after an old copy of the store was put back";
        findings.push(format!("{by} remembers record {seq}; the chain goes to {last}: {how}"));
    }
    findings.extend(chain.inconsistency()?);
    Ok(Report {
        store: store.into(),
        records: head.seq.saturating_sub(base.seq),
        let_go: base.seq,
        hash: hex(&head.hash),
        base: (base.seq > 0).then(|| hex(&base.hash)),
        witnesses: witnesses.len() as u64,
        findings,
    })
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The hash of a record, as the chain has it now.
pub fn hash_at(chain: &dyn ChainReader, seq: u64) -> Result<Option<ChainHash>, Unreadable> {
    use sha2::{Digest as _, Sha256};
    let base = chain.base()?;
    if seq > 0 && seq == base.seq {
        return Ok(Some(base.hash));
    }
    let mut hash = None;
    if seq > base.seq {
        chain.walk(seq, &mut |bytes| {
            let is_it = super::Record::decode(bytes).is_ok_and(|record| record.seq == seq);
            hash = is_it.then(|| Sha256::digest(bytes).into());
            ControlFlow::Break(())
        })?;
    }
    Ok(hash)
}

/// In hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

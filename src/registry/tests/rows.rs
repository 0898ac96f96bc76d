//! The format of rows: what is stored today is read by every later program.

use crate::model::{DocumentId, Dot, Id, Origin};
use crate::registry::State;
use crate::registry::command::{Command, EpochRoll, Expect};
use crate::registry::fixture::{NOW, admin, founded, name, proposal, retryable, sealed};
use crate::registry::state::Row;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One row of each kind.
fn every_kind() -> State {
    let mut state = founded();
    let bind = Command::Bind {
        document: DocumentId::parse("web/dev").unwrap(),
        key: name("a"),
        role: name("developer"),
    };
    state.by_admin(bind).unwrap();
    let put = Command::PutSecret {
        id: Id::from_u128(30),
        name: name("db"),
        expect: Expect::Any,
        version: 1,
        sealed: sealed(1),
    };
    let applied = state.next(&retryable(proposal(Some(admin()), put), 1, 1));
    assert_eq!(applied.rows.len(), 3, "a put writes the secret, its version, and the retry's row");
    let dots = [(1, 7), (2, 1)].map(|(origin, n)| Dot { origin: Origin([origin; 8]), n });
    let roll = EpochRoll {
        epoch: 1,
        floor: dots.into_iter().collect(),
        base: [5; 32],
        removals_before: NOW,
        fold: None,
    };
    let document = DocumentId::parse("web/dev").unwrap();
    let applied = state.next(&proposal(None, Command::RollEpoch { document, roll }));
    assert_eq!(applied.rows.len(), 1, "{:?}", applied.outcome);
    state
}

#[test]
fn the_format_of_rows_does_not_change() {
    let state = every_kind();
    let line = |row: Row| format!("{} {}\n", hex(&row.key), hex(&row.value.unwrap_or_default()));
    let lines = state.rows().map(line);
    let text: String = lines.collect();
    let golden = include_str!("rows.golden");
    assert_eq!(text, golden, "rows that are stored have to be read by every later program");
    let mut state = State { index: every_kind().index, ..State::default() };
    for line in golden.lines() {
        let (key, value) = line.split_once(' ').unwrap();
        let row = Row { key: unhex(key), value: Some(unhex(value)) };
        state.insert(&row).unwrap();
    }
    assert_eq!(state, every_kind());
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[test]
fn a_row_of_a_later_program_is_read_as_far_as_it_is_known() {
    let mut state = founded();
    let mut bytes = vec![1];
    let mut e = minicbor::Encoder::new(&mut bytes);
    e.map(3).unwrap().u8(0).unwrap().str("later").unwrap();
    e.u8(1).unwrap().u8(3).unwrap().u8(9).unwrap().str("what is this").unwrap();
    let key = [&[4][..], Id::from_u128(7).as_bytes()].concat();
    state.insert(&Row { key, value: Some(bytes) }).unwrap();
    assert_eq!(state.secret_version(&name("later")), 3);
}

#[test]
fn what_is_damaged_is_refused_and_changes_nothing() {
    let whole = every_kind();
    let rows: Vec<Row> = whole.rows().collect();
    let row = |key: Vec<u8>, value: &[u8]| Row { key, value: Some(value.to_vec()) };
    let version = rows.iter().find(|row| row.key[0] == 5).unwrap();
    for bad in [
        row(vec![], &[]),
        row(vec![77], &[]),
        row(vec![1, 2, 3], &[1]),
        row(rows[0].key.clone(), &[]),
        row(rows[0].key.clone(), &[2, 0xa0]),
        row([&[1][..], &[9; 16]].concat(), rows[0].value.as_ref().unwrap()),
        row([&[5][..], &[9; 16], &[0; 4]].concat(), version.value.as_ref().unwrap()),
    ] {
        let mut state = whole.clone();
        assert!(state.insert(&bad).is_err(), "{bad:?}");
        assert_eq!(state, whole);
    }
}

//! Epochs of documents: no epoch begins in two ways.

use crate::model::vector::{Fold, FoldRow};
use crate::model::{DocumentId, Dot, Origin, Stamp, Told};
use crate::registry::State;
use crate::registry::command::{Command, EpochRoll, Outcome, Refusal};
use crate::registry::fixture::{NOW, admin, founded, name, of_account, proposal};
use crate::registry::limits::FLOOR_ORIGINS_MAX;
use crate::registry::state::Applied;

fn floor(dots: &[(u8, u64)]) -> Told {
    dots.iter().map(|&(origin, n)| Dot { origin: Origin([origin; 8]), n }).collect()
}

fn roll(epoch: u32, dots: &[(u8, u64)]) -> EpochRoll {
    EpochRoll { epoch, floor: floor(dots), base: [5; 32], removals_before: NOW, fold: None }
}

fn command(roll: EpochRoll) -> Command {
    Command::RollEpoch { document: DocumentId::parse("web/dev").unwrap(), roll }
}

fn decide(state: &mut State, roll: EpochRoll) -> Applied {
    state.next(&proposal(None, command(roll)))
}

#[test]
fn an_epoch_begins_in_one_way() {
    let mut state = founded();
    assert_eq!(decide(&mut state, roll(1, &[(1, 5)])).outcome, Ok(Outcome::Done));
    for other in [
        roll(1, &[(1, 6)]),
        EpochRoll { base: [6; 32], ..roll(1, &[(1, 5)]) },
        EpochRoll { removals_before: Stamp(NOW.0 + 1), ..roll(1, &[(1, 5)]) },
        roll(0, &[(1, 9)]),
    ] {
        let before = state.epochs.clone();
        assert_eq!(decide(&mut state, other).outcome, Err(Refusal::Mismatch(1)));
        assert_eq!(state.epochs, before);
    }
    // Another document's epochs are its own.
    let document = DocumentId::parse("web/prod").unwrap();
    let elsewhere = Command::RollEpoch { document, roll: roll(1, &[(1, 2)]) };
    assert_eq!(state.next(&proposal(None, elsewhere)).outcome, Ok(Outcome::Done));
}

#[test]
fn who_leads_next_can_decide_the_same_again_and_nothing_comes_of_it() {
    let mut state = founded();
    decide(&mut state, roll(1, &[(1, 5)])).outcome.unwrap();
    let again = decide(&mut state, roll(1, &[(1, 5)]));
    assert_eq!((again.outcome, again.rows), (Ok(Outcome::Done), vec![]));
}

#[test]
fn a_floor_never_goes_back() {
    let mut state = founded();
    decide(&mut state, roll(1, &[(1, 5), (2, 3)])).outcome.unwrap();
    for back in [&[(1, 9)][..], &[(1, 4), (2, 3)], &[]] {
        let refused = decide(&mut state, roll(2, back)).outcome;
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
    assert_eq!(decide(&mut state, roll(2, &[(1, 5), (2, 9)])).outcome, Ok(Outcome::Done));
}

#[test]
fn a_cluster_that_remembers_an_old_epoch_goes_on_above_the_documents() {
    let mut state = founded();
    decide(&mut state, roll(1, &[(1, 5)])).outcome.unwrap();
    assert_eq!(decide(&mut state, roll(4, &[(1, 50)])).outcome, Ok(Outcome::Done));
    assert_eq!(decide(&mut state, roll(3, &[(1, 60)])).outcome, Err(Refusal::Mismatch(4)));
}

#[test]
fn a_floor_has_a_bound_and_is_not_empty() {
    let mut state = founded();
    let origin = |i: usize| Origin(u64::try_from(i).unwrap().to_be_bytes());
    let many = (0..=FLOOR_ORIGINS_MAX).map(|i| Dot { origin: origin(i), n: 1 }).collect();
    let refused = decide(&mut state, EpochRoll { floor: many, ..roll(1, &[]) }).outcome;
    assert!(matches!(refused, Err(Refusal::Limit(_))), "{refused:?}");
    let refused = decide(&mut state, roll(1, &[])).outcome;
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
}

#[test]
fn a_decision_is_on_the_audit_log_and_somebody_without_leave_takes_none() {
    let mut state = founded();
    let event = decide(&mut state, roll(1, &[(1, 5)])).event.unwrap();
    assert_eq!((&*event.action, &*event.target), ("epoch.roll", "web/dev epoch 1"));
    assert_eq!((&*event.principal, &*event.outcome), ("cluster", "done"));
    let id = crate::model::Id::from_u128(70);
    let (name, roles) = (name("dev"), [name("developer")].into());
    state.by_admin(Command::CreateAccount { id, name, roles, credential: None }).unwrap();
    let by = |who| proposal(Some(who), command(roll(2, &[(1, 6)])));
    let refused = state.next(&by(of_account(id, None))).outcome;
    assert!(matches!(refused, Err(Refusal::Denied(_))), "{refused:?}");
    assert_eq!(state.next(&by(admin())).outcome, Ok(Outcome::Done));
}

#[test]
fn no_two_folds_have_one_number_whatever_documents_they_go_with() {
    let mut state = founded();
    let mut kept = State::default();
    let fold = |generation, at: u8| {
        let row = FoldRow { dot: Dot { origin: Origin([at; 8]), n: 5 }, hash: [1; 32] };
        Some(Fold::new(generation, vec![row]).unwrap())
    };
    let with =
        |generation, at| EpochRoll { fold: fold(generation, at), ..roll(1, &[(1, 5), (2, 5)]) };
    let of = |document: &str, roll: &EpochRoll| Command::RollEpoch {
        document: DocumentId::parse(document).unwrap(),
        roll: roll.clone(),
    };
    let mut decide = |document: &str, roll: &EpochRoll| {
        let applied = state.next(&proposal(None, of(document, roll)));
        applied.rows.iter().for_each(|row| kept.insert(row).unwrap());
        (applied.outcome, state.folded)
    };
    let skipping = decide("web/dev", &with(2, 1));
    assert!(matches!(skipping, (Err(Refusal::Invalid(_)), 0)), "{skipping:?}");
    let beyond = decide("web/dev", &with(1, 3));
    assert!(matches!(beyond, (Err(Refusal::Invalid(_)), 0)), "its floor has no such origin");
    assert_eq!(decide("web/dev", &with(1, 1)), (Ok(Outcome::Done), 1));
    assert_eq!(decide("web/dev", &with(1, 1)), (Ok(Outcome::Done), 1), "the same again");
    assert_eq!(decide("web/prod", &with(1, 2)), (Err(Refusal::Mismatch(1)), 1));
    let mut next = with(2, 2);
    next.floor.advance(Dot { origin: Origin::FOLDS, n: 1 });
    assert_eq!(decide("web/prod", &next), (Ok(Outcome::Done), 2));
    // As it is written row by row, and as it is kept and sent.
    assert_eq!((kept.folded, kept.epochs.len()), (2, 2));
    let mut copy = State::default();
    for row in state.rows() {
        copy.insert(&row).unwrap();
    }
    assert_eq!(copy.folded, 2);
}

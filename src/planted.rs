//! Bugs that tests plant in the real program, to see that the simulator catches them. What finds
//! nothing can be trusted only as far as it was seen to find something.
//!
//! In a program that is built without its tests none of this is there: [`is_planted`] is then
//! `false` at compile time, and what it guards is gone. It holds no fault that a scenario can ask
//! for; those break what is around the program, these the program itself.

#[cfg(test)]
mod tests;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A write is acknowledged before it is on disk.
    AcknowledgeBeforeSync,
    /// A voter tells that it has an entry of the log before it is on disk.
    PushBeforeSync,
    /// What was missed is never asked for.
    SkipAntiEntropy,
    /// A store that was put back goes on with the numbers that it gave out before.
    ReuseOrigin,
    /// A linearizable read is answered from what this node happens to have.
    LocalReadAsLinearizable,
    /// Who came first stays the winner.
    WinnerByArrival,
    /// Of writes with one stamp, whichever is looked at last is the winner.
    WinnerByGreaterOrEqual,
    /// A resumed watch takes one change more for seen than its session has.
    ResumeOneLate,
    /// Reading one key is allowed to whoever once had a token.
    PermitSkipped,
    /// A retry is carried out as if it were a new request.
    ApplyWithoutIdempotencyKey,
    /// Who leads begins a document's next epoch without having it decided.
    RollWithoutDecision,
    /// What an epoch begins with has the winners alone.
    BaseForgetsConflicts,
    /// A change that is made anew in a later epoch stands beside what it replaced.
    LateForgetsReplaced,
    /// Of a key's newest versions one less is kept than the policy says.
    PruneOneMore,
    /// Who takes whole documents forgets what it wrote alone.
    TakeForgetsOwn,
    /// Documents are rolled whatever programs the members run.
    RollDespiteOldPrograms,
}

#[cfg(test)]
thread_local! {
    /// Simulations run on one thread from start to end, blocking work included; tests run on many.
    /// So a bug is in one test's program and in no other's.
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether the program has this bug now.
#[cfg(test)]
pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether the program has this bug: never.
#[cfg(not(test))]
pub(crate) const fn is_planted(_: Bug) -> bool {
    false
}

/// What `run` gives in a program with this bug.
#[cfg(test)]
pub(crate) fn with<T>(bug: Option<Bug>, run: impl FnOnce() -> T) -> T {
    /// Takes the bug out again, also where a test panics.
    struct Out;

    impl Drop for Out {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }

    PLANTED.set(bug);
    let _out = Out;
    run()
}

//! The keys that sign the cluster's own tokens: which of them does it now, and which is due to come
//! or to go. Decides only; keys are made and opened by whoever holds the master key.

use super::state::State;
use crate::access::token::OwnKeys;
use crate::model::Text;

impl OwnKeys for State {
    fn public(&self, kid: &Text) -> Option<[u8; 32]> {
        self.signing.get(kid).map(|key| key.public)
    }
}

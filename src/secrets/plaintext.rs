//! A value in the clear, in memory alone: it cannot be printed, cloned or serialized by accident,
//! and its bytes are overwritten when it goes. Whoever needs them says [`Plaintext::expose`].

use zeroize::Zeroizing;

/// A value in the clear.
pub struct Plaintext(Zeroizing<Vec<u8>>);

impl Plaintext {
    /// Takes these bytes over. Give it the only copy there is.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for sealing and for the answer to whoever may see them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// As text, where it is UTF-8.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Its length, in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plaintext(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_the_clear_shows_neither_itself_nor_its_length() {
        let value = Plaintext::new(b"hunter2".to_vec());
        assert_eq!(format!("{value:?} {value:#?}"), "Plaintext(..) Plaintext(..)");
        assert_eq!(value.expose(), b"hunter2");
    }
}

//! A bearer token that cannot be printed by accident.

use std::fmt;
use std::str::FromStr;

/// A bearer token. `Debug` shows that there is one, and nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Whether it can be sent.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.0.is_empty() || !self.0.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("the token is empty, or has characters that no token has");
        }
        Ok(())
    }

    /// The token for the header it goes into.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// Takes the text as it is; a client refuses it where it cannot be sent.
impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl FromStr for Token {
    type Err = &'static str;

    /// Takes visible ASCII, which is all a JWT has, without the white space around it.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let token = Self(text.trim().to_owned());
        token.check().map(|()| token)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_printed() {
        let token: Token = " e30.e30.x\n".parse().unwrap();
        assert_eq!(token.expose(), "e30.e30.x");
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert!("a b".parse::<Token>().is_err());
        assert!("\n".parse::<Token>().is_err());
    }
}

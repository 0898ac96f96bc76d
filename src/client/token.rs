//! A bearer token that cannot be printed by accident.

use std::fmt;
use std::str::FromStr;

/// A bearer token. `Debug` shows that there is one, and nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token for the header it goes into.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = String;

    /// Takes visible ASCII, which is all a JWT has, without the white space around it.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("the token is empty, or has characters that no token has".to_owned());
        }
        Ok(Self(text.to_owned()))
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

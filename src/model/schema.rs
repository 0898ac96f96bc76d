//! How the words of this room look in the description of the API: their alphabets and lengths, from
//! the constants that they are checked by. Nothing here checks anything.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::name::{
    ACCOUNT_LEN_MAX, AccountName, Environment, KEY_LEN_MAX, Key, LABEL_LEN_MAX, NodeName,
    RegionName, RoleName, SECRET_LEN_MAX, SERVICE_LEN_MAX, SecretName, Service,
};
use super::{Id, JsonText, Origin, Stamp, Text};

/// `name::check_name`'s alphabet, without `.` and `..`.
const NAME: &str = r"^(\.*[A-Za-z0-9_:-][A-Za-z0-9._:-]*|\.{3,})$";
/// `name::check_label`'s alphabet.
const LABEL: &str = "^[a-z0-9-]+$";

macro_rules! described {
    ($($type:ident: $schema:expr;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

fn name(pattern: &str, len_max: usize) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": len_max, "pattern": pattern})
}

described! {
    Service: name(NAME, SERVICE_LEN_MAX);
    Environment: name(NAME, SERVICE_LEN_MAX);
    Key: name(NAME, KEY_LEN_MAX);
    AccountName: name(NAME, ACCOUNT_LEN_MAX);
    RoleName: name(NAME, ACCOUNT_LEN_MAX);
    SecretName: name(NAME, SECRET_LEN_MAX);
    RegionName: name(LABEL, LABEL_LEN_MAX);
    NodeName: name(LABEL, LABEL_LEN_MAX);
    Id: json_schema!({"type": "string", "format": "uuid"});
    Origin: json_schema!({"type": "string", "pattern": "^[0-9a-f]{16}$"});
    Stamp: json_schema!({"type": "string", "format": "date-time"});
    Text: json_schema!({"type": "string"});
    // Any JSON value.
    JsonText: json_schema!({});
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NameError;
    use proptest::prelude::{prop_assert_eq, proptest};

    /// What [`NAME`] says, by hand: the crate that reads patterns is no dependency.
    fn fits(text: &str) -> bool {
        let is_other = |c: char| c.is_ascii_alphanumeric() || "_:-".contains(c);
        let alphabet = text.chars().all(|c| is_other(c) || c == '.');
        alphabet && (text.chars().any(is_other) || text.len() > 2)
    }

    proptest! {
        #[test]
        fn the_pattern_of_names_is_what_is_checked(text in "[.a:/é]{0,5}") {
            let checked: Result<Key, NameError> = Key::new(&text);
            prop_assert_eq!(checked.is_ok(), fits(&text), "{}", text);
        }
    }
}

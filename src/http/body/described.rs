//! How bodies look: types that are never made, whose members' names are the ones that bodies are taken
//! apart by. Nothing is read here.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use crate::model::{JsonText, Key};

/// A body that is an object: what its members are, for the description of the API, and what they are
/// called, for whoever takes it apart. No member is known that is not described.
macro_rules! body {
    ($(#[$meta:meta])* $name:ident { $($(#[$of_field:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        $(#[$meta])*
        #[allow(dead_code, reason = "a description, and never made")]
        pub(in crate::http) struct $name {
            $($(#[$of_field])* $field: $type,)*
        }

        impl $name {
            /// The names of its members.
            pub(in crate::http) const FIELDS: &[&str] = &[$(stringify!($field)),*];
        }
    };
}
pub(in crate::http) use body;

/// Of a schema that allows `null`, the one that does not: the member may be left out, and that is all.
pub(in crate::http) fn present(schema: &mut schemars::Schema) {
    if let Some(serde_json::Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [kind] = &types[..] {
            let kind = kind.clone();
            schema.insert("type".to_owned(), kind);
        }
    }
}

body! {
    /// One key that is to be written.
    OneEntry {
        key: Key,
        value: JsonText,
        /// The version that the key has to have at this node now; 0 where it may not be there.
        expect_version: Option<u64>,
        /// Why, for the history.
        message: Option<String>,
    }
}

body! {
    /// Keys that are to be written together, in one change.
    ManyEntries {
        entries: Entries,
        /// Why, for the history.
        message: Option<String>,
    }
}

body! {
    /// One key of several.
    NewEntry {
        key: Key,
        value: JsonText,
        /// The version that the key has to have at this node now; 0 where it may not be there.
        expect_version: Option<u64>,
    }
}

/// Values by their keys, or a list.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a description, and never made")]
enum Entries {
    ByKey(#[schemars(extend("minProperties" = 1), transform = by_name)] BTreeMap<Key, JsonText>),
    List(#[schemars(length(min = 1))] Vec<NewEntry>),
}

/// Members of any name that fits: said so that generators of clients, which know no patterns of names,
/// let them be.
fn by_name(schema: &mut schemars::Schema) {
    let Some(serde_json::Value::Object(patterns)) = schema.remove("patternProperties") else {
        return;
    };
    for (pattern, value) in patterns {
        schema.insert("additionalProperties".to_owned(), value);
        schema.insert("propertyNames".to_owned(), serde_json::json!({ "pattern": pattern }));
    }
}

/// What a POST takes: one key, or several.
#[derive(JsonSchema)]
#[schemars(rename = "Posted", untagged)]
#[expect(dead_code, reason = "a description, and never made")]
pub(in crate::http) enum Posted {
    One(OneEntry),
    Many(ManyEntries),
}

body! {
    /// Which version is to be written again.
    Restoration {
        version: Version,
        /// Why, for the history.
        message: Option<String>,
    }
}

/// A version: by its number, or, where regions gave the same number at the same time, by
/// `number@origin`, also after the others of them went.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a description, and never made")]
enum Version {
    Number(#[schemars(range(min = 1))] u64),
    Text(#[schemars(regex(pattern = "^[1-9][0-9]{0,18}(@[0-9a-f]{16})?$"))] String),
}

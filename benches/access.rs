//! What a decision costs beside a config read: 1,000 roles and 10,000 grants in the rules, asked by
//! callers with few of them and with all. `cargo bench --bench access`.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use holm::access::{Account, Caller, Grant, Role, Rules, decide};
use holm::model::{AccountName, DocumentId, Id, Key, RoleName, Stamp};

const ROLES: u128 = 1_000;
const GRANTS_EACH: u128 = 10;
const DECISIONS: u32 = 200_000;

fn id(n: u128) -> Id {
    Id::from_bytes(n.to_be_bytes())
}

/// How grants are spread over what they allow.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Each on a service of its own.
    Services,
    /// All of them patterns on services, which have to be tried one by one.
    Patterns,
    /// All of them on one document, each on a key of its own.
    Keys,
    /// All of them on one document, each a pattern of keys.
    KeyPatterns,
}

fn grant(kind: Kind, n: u128) -> Grant {
    let text = match kind {
        Kind::Services => format!("config:*:service{n}/*"),
        Kind::Patterns => format!("config:*:s*e*{n}/d*v"),
        Kind::Keys => format!("config:*:service9999/dev/key.{n}"),
        Kind::KeyPatterns => format!("config:*:service9999/dev/key.{n}.*"),
    };
    Grant::parse(&text).expect("a grant")
}

fn rules(kind: Kind) -> Rules {
    let mut rules = Rules::default();
    for n in 0..ROLES {
        let role = Role {
            id: id(n),
            name: RoleName::new(&format!("role{n}")).expect("a name"),
            grants: (0..GRANTS_EACH).map(|i| grant(kind, n * GRANTS_EACH + i)).collect(),
            version: 1,
            created_at: Stamp(1),
            updated_at: Stamp(1),
        };
        rules.role_ids.insert(role.name.clone(), role.id);
        rules.roles.insert(role.id, Arc::new(role));
    }
    for (n, from) in [(1, ROLES - 3), (2, 0)] {
        let account = Account {
            id: id(n),
            name: AccountName::new(&format!("account{n}")).expect("a name"),
            enabled: true,
            roles: (from..ROLES).map(id).collect(),
            credentials: Default::default(),
            version: 1,
            created_at: Stamp(1),
            updated_at: Stamp(1),
        };
        rules.account_ids.insert(account.name.clone(), account.id);
        rules.accounts.insert(account.id, Arc::new(account));
    }
    rules
}

/// A caller as it travels with a proposal: there is no other way to make one without a token.
fn caller(account: u128) -> Caller {
    let mut bytes = Vec::new();
    let mut e = minicbor::Encoder::new(&mut bytes);
    let mut encode = || -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        e.map(6)?.u8(0)?.str("bench")?;
        e.u8(1)?.array(2)?.u8(0)?.array(2)?.bytes(id(account).as_bytes())?.null()?;
        e.u8(2)?.array(0)?;
        e.u8(4)?.u8(0)?.u8(5)?.u8(0)?.u8(6)?.u64(u64::MAX)?;
        Ok(())
    };
    encode().expect("encoding into memory has no way to fail");
    holm::model::cbor::decode(&bytes).expect("a caller")
}

fn main() {
    let document = DocumentId::parse("service9999/dev").expect("a name");
    let keys: Vec<Key> =
        (0..100).map(|n| Key::new(&format!("key.99{n:02}")).expect("a name")).collect();
    for kind in [Kind::Services, Kind::Patterns, Kind::Keys, Kind::KeyPatterns] {
        let rules = rules(kind);
        for (who, account) in [("3 roles", 1), ("1,000 roles", 2)] {
            let caller = caller(account);
            let start = Instant::now();
            let first = decide::read_key(&caller, &rules, &document, &keys[0]);
            let first_took = start.elapsed();
            let start = Instant::now();
            let mut allowed = 0_u32;
            for n in 0..DECISIONS {
                let key = &keys[n as usize % keys.len()];
                let permit = decide::read_key(black_box(&caller), &rules, &document, key);
                allowed += u32::from(black_box(permit).is_ok());
            }
            let each = start.elapsed().as_secs_f64() * 1e6 / f64::from(DECISIONS);
            println!(
                "{kind:?}, a caller with {who}: {each:6.2} us a decision ({} % allowed); the first \
                 one after a change of the rules {:6.0} us ({})",
                100 * allowed / DECISIONS,
                first_took.as_secs_f64() * 1e6,
                if first.is_ok() { "allowed" } else { "denied" },
            );
        }
    }
}

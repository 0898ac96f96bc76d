mod own;

use super::*;
use crate::access::mint::MintKey;
use crate::access::{Rules, decide};
use crate::model::{DocumentId, Key};
use crate::settings::{Algorithm, KeySettings};
use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::Jwk;
use proptest::prelude::*;
use serde_json::json;

const ES256_PRIVATE: &str = include_str!("../../../tests/data/keys/es256-private.pem");
const ES256_PUBLIC: &str = include_str!("../../../tests/data/keys/es256-public.pem");
const RS256_PRIVATE: &str = include_str!("../../../tests/data/keys/rs256-private.pem");
const RS256_PUBLIC: &str = include_str!("../../../tests/data/keys/rs256-public.pem");
const RSA_1024_PUBLIC: &str = include_str!("../../../tests/data/keys/rsa-1024-public.pem");

const NOW_S: u64 = 1_700_000_000;
const NONE: BTreeMap<Text, [u8; 32]> = BTreeMap::new();
const NOW: Stamp = Stamp(NOW_S * MICROS_PER_SECOND);

fn mint() -> MintKey {
    MintKey::from_seed(&[7; 32]).unwrap()
}

fn pem_key(algorithm: Algorithm) -> KeySettings {
    KeySettings {
        pem: Some(String::new()),
        algorithms: vec![algorithm],
        audience: "holm".to_owned(),
        issuer: Some("tests".to_owned()),
        scopes: Scopes::Grant,
        ..KeySettings::default()
    }
}

fn jwks_key() -> KeySettings {
    KeySettings { pem: None, jwks: Some(String::new()), ..pem_key(Algorithm::EdDSA) }
}

fn verifier_of(keys: &[(KeySettings, &str)]) -> Result<Verifier, KeyError> {
    let sources: Vec<_> =
        keys.iter().map(|(settings, text)| KeySource { settings, text }).collect();
    Verifier::new(&AccessSettings::default(), "test", &sources)
}

fn verifier() -> Verifier {
    verifier_of(&[(pem_key(Algorithm::EdDSA), &mint().public_pem())]).unwrap()
}

fn claims() -> Value {
    json!({"sub": "ada", "aud": "holm", "iss": "tests", "exp": NOW_S + 60,
        "scope": "openid config:read:web/dev"})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn check(claims: &Value) -> Result<Arc<Caller>, TokenError> {
    verifier().verify(&mint().sign(claims).unwrap(), NOW, &NONE).map(|(caller, _)| caller)
}

fn check_header(header: &Value) -> Result<Arc<Caller>, TokenError> {
    let token = mint().sign_with_header(header, &claims()).unwrap();
    verifier().verify(&token, NOW, &NONE).map(|(caller, _)| caller)
}

fn sign_as(algorithm: jsonwebtoken::Algorithm, key: &EncodingKey, header: &Value) -> String {
    let parts = [header.to_string(), claims().to_string()];
    let message = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signer = (DEFAULT_PROVIDER.signer_factory)(&algorithm, key).unwrap();
    let signature = signer.try_sign(message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_good_token_says_who_it_is_and_what_it_may() {
    let caller = check(&claims()).unwrap();
    assert_eq!(&**caller.principal(), "ada");
    assert!(
        decide::read_document(&caller, &Rules::default(), &DocumentId::parse("web/dev").unwrap())
            .is_ok()
    );
    assert!(
        decide::read_document(&caller, &Rules::default(), &DocumentId::parse("web/prod").unwrap())
            .is_err()
    );
}

#[test]
fn roles_stand_for_their_scopes_wherever_the_claim_is() {
    let key = Key::new("k").unwrap();
    for (path, claims) in [
        ("roles", with("roles", json!(["developer", "unknown"]))),
        ("realm_access.roles", with("realm_access", json!({"roles": ["developer"]}))),
        ("https://x.example/roles", with("https://x.example/roles", json!("developer"))),
    ] {
        let settings =
            KeySettings { roles_claim: Some(path.to_owned()), ..pem_key(Algorithm::EdDSA) };
        let verifier = verifier_of(&[(settings, &mint().public_pem())]).unwrap();
        let (caller, _) = verifier.verify(&mint().sign(&claims).unwrap(), NOW, &NONE).unwrap();
        let write = |document: &str| {
            decide::write_keys(
                &caller,
                &Rules::default(),
                &DocumentId::parse(document).unwrap(),
                [&key],
            )
            .is_ok()
        };
        assert!(write("shop/dev") && !write("shop/prod"), "{path}");
    }
}

#[test]
fn wrong_claims_are_refused_each_with_its_reason() {
    use TokenError as E;
    for (claims, error) in [
        (with("aud", json!("other")), E::Audience),
        (with("aud", json!(["other", 7])), E::Audience),
        (without("aud"), E::Audience),
        (with("iss", json!("else")), E::Issuer),
        (without("iss"), E::Issuer),
        (without("exp"), E::NoExpiry),
        (with("exp", json!(NOW_S - 30)), E::Expired),
        (with("exp", json!(0)), E::Expired),
        (with("exp", json!("soon")), E::Malformed("a time is not a number of seconds")),
        (with("exp", json!(-5)), E::Malformed("a time is not a number of seconds")),
        (with("nbf", json!(NOW_S + 31)), E::NotYet),
        (without("sub"), E::Subject),
        (with("sub", json!("")), E::Subject),
        (with("sub", json!("a\nb")), E::Subject),
        (with("sub", json!("a".repeat(256))), E::Subject),
    ] {
        assert_eq!(check(&claims).unwrap_err(), error, "{claims}");
    }
    for good in [
        with("aud", json!(["x", "holm"])),
        with("exp", json!(NOW_S - 29)),
        with("exp", json!(NOW_S as f64 + 1.5)),
        with("exp", json!(u64::MAX)),
        with("nbf", json!(NOW_S + 30)),
    ] {
        assert!(check(&good).is_ok(), "{good}");
    }
}

#[test]
fn headers_that_name_or_bring_keys_are_refused() {
    for name in ["crit", "jku", "jwk", "x5u", "x5c"] {
        let mut header = json!({"alg": "EdDSA"});
        header[name] = json!("anything");
        assert_eq!(check_header(&header).unwrap_err(), TokenError::Header(name));
    }
    let typ = TokenError::Header("a typ other than JWT");
    assert_eq!(check_header(&json!({"alg": "EdDSA", "typ": "JOSE"})).unwrap_err(), typ);
    assert!(check_header(&json!({"alg": "EdDSA", "typ": "at+jwt"})).is_ok());
    assert!(check_header(&json!({"alg": "EdDSA"})).is_ok());
}

#[test]
fn the_token_does_not_choose_its_algorithm() {
    // Unsigned, in the spellings that have worked elsewhere.
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let parts = [json!({ "alg": alg }).to_string(), claims().to_string()];
        let message = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let unsigned = verifier().verify(&format!("{message}."), NOW, &NONE);
        assert_eq!(unsigned.unwrap_err(), TokenError::NoKey, "{alg}");
    }
    assert_eq!(check_header(&json!({"alg": "none"})).unwrap_err(), TokenError::NoKey);
    // The public key taken for a shared secret.
    for (public, algorithm) in [
        (mint().public_pem(), Algorithm::EdDSA),
        (RS256_PUBLIC.to_owned(), Algorithm::RS256),
        (ES256_PUBLIC.to_owned(), Algorithm::ES256),
    ] {
        let secret = EncodingKey::from_secret(public.as_bytes());
        let token = sign_as(jsonwebtoken::Algorithm::HS256, &secret, &json!({"alg": "HS256"}));
        let verifier = verifier_of(&[(pem_key(algorithm), &public)]).unwrap();
        assert_eq!(verifier.verify(&token, NOW, &NONE).unwrap_err(), TokenError::NoKey);
    }
    // A right signature under another algorithm's name.
    assert_eq!(check_header(&json!({"alg": "ES256"})).unwrap_err(), TokenError::NoKey);
}

#[test]
fn es256_and_rs256_tokens_are_verified_from_pem_and_from_a_key_set() {
    use jsonwebtoken::Algorithm as Library;
    let es256 = EncodingKey::from_ec_pem(ES256_PRIVATE.as_bytes()).unwrap();
    let rs256 = EncodingKey::from_rsa_pem(RS256_PRIVATE.as_bytes()).unwrap();
    for (own, library, key, public) in [
        (Algorithm::ES256, Library::ES256, &es256, ES256_PUBLIC),
        (Algorithm::RS256, Library::RS256, &rs256, RS256_PUBLIC),
    ] {
        let alg = format!("{own:?}");
        let jwk = Jwk::from_encoding_key(key, library).unwrap();
        let set = json!({"keys": [{"kty": "oct", "k": "AAAA"}, jwk]}).to_string();
        let token = sign_as(library, key, &json!({ "alg": alg }));
        let in_set = KeySettings { algorithms: vec![own], ..jwks_key() };
        for (settings, text) in [(pem_key(own), public), (in_set, &set)] {
            let verifier = verifier_of(&[(settings, text)]).unwrap();
            assert!(verifier.verify(&token, NOW, &NONE).is_ok(), "{alg}");
            let (message, _) = token.rsplit_once('.').unwrap();
            let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 64]));
            assert_eq!(verifier.verify(&forged, NOW, &NONE).unwrap_err(), TokenError::Signature);
        }
    }
}

#[test]
fn the_kid_chooses_among_the_keys_of_a_set() {
    let (one, two) = (mint(), MintKey::from_seed(&[8; 32]).unwrap());
    let list =
        |key: &MintKey| serde_json::from_str::<Value>(&key.jwks()).unwrap()["keys"][0].clone();
    let set = json!({"keys": [list(&one), list(&two)]}).to_string();
    let verifier = verifier_of(&[(jwks_key(), &set)]).unwrap();
    assert!(verifier.verify(&one.sign(&claims()).unwrap(), NOW, &NONE).is_ok());
    assert!(verifier.verify(&two.sign(&claims()).unwrap(), NOW, &NONE).is_ok());
    let crossed = json!({"alg": "EdDSA", "kid": one.kid()});
    let crossed = two.sign_with_header(&crossed, &claims()).unwrap();
    assert_eq!(verifier.verify(&crossed, NOW, &NONE).unwrap_err(), TokenError::Signature);
    let stranger = MintKey::from_seed(&[9; 32]).unwrap().sign(&claims()).unwrap();
    assert_eq!(verifier.verify(&stranger, NOW, &NONE).unwrap_err(), TokenError::NoKey);
    let nameless = two.sign_with_header(&json!({"alg": "EdDSA"}), &claims()).unwrap();
    assert!(verifier.verify(&nameless, NOW, &NONE).is_ok());
}

#[test]
fn keys_that_cannot_be_used_are_refused_at_the_start() {
    let short = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]}).to_string();
    let for_encryption = mint().jwks().replace("\"sig\"", "\"enc\"");
    for (settings, text, reason) in [
        (pem_key(Algorithm::RS256), RSA_1024_PUBLIC, "1024 bits"),
        (pem_key(Algorithm::EdDSA), ES256_PUBLIC, "no EdDSA public key"),
        (pem_key(Algorithm::ES256), ES256_PRIVATE, "private key"),
        (pem_key(Algorithm::ES256), "hello", "no ES256 public key"),
        (jwks_key(), short.as_str(), "32 bytes"),
        (jwks_key(), for_encryption.as_str(), "no key for the allowed"),
        (jwks_key(), "{}", "no list"),
        (jwks_key(), "nothing", "no key set"),
    ] {
        let error = verifier_of(&[(settings, text)]).err().unwrap().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_remembered_token_ends_when_it_expires() {
    let verifier = verifier();
    let token = mint().sign(&claims()).unwrap();
    assert!(!verifier.verify(&token, NOW, &NONE).unwrap().1);
    assert!(verifier.verify(&token, NOW, &NONE).unwrap().1);
    let last = Stamp(NOW.0 + 90 * MICROS_PER_SECOND - 1);
    assert!(verifier.verify(&token, last, &NONE).unwrap().1);
    assert_eq!(verifier.verify(&token, Stamp(last.0 + 1), &NONE).unwrap_err(), TokenError::Expired);
}

#[test]
fn tokens_past_their_limits_are_refused() {
    let long = mint().sign(&with("x", json!("a".repeat(TOKEN_LEN_MAX)))).unwrap();
    assert_eq!(verifier().verify(&long, NOW, &NONE).unwrap_err(), TokenError::TooLong);
    for bad in ["", ".", "..", "a.b", "a.b.c.d", "e30.e30.", "e30.e30.e30", "é.é.é"] {
        assert!(verifier().verify(bad, NOW, &NONE).is_err(), "{bad:?}");
    }
    let many = vec!["config:read:web/a"; SCOPES_MAX].join(" ");
    let caller = check(&with("scope", json!(format!("{many} config:read:web/b")))).unwrap();
    assert!(
        decide::read_document(&caller, &Rules::default(), &DocumentId::parse("web/a").unwrap())
            .is_ok()
    );
    assert!(
        decide::read_document(&caller, &Rules::default(), &DocumentId::parse("web/b").unwrap())
            .is_err()
    );
}

#[test]
fn a_claim_that_stands_twice_is_refused() {
    let twice = format!(r#"{{"sub":"eve",{}"#, &claims().to_string()[1..]);
    let raw = serde_json::value::RawValue::from_string(twice).unwrap();
    let token = mint().sign(&raw).unwrap();
    assert!(matches!(verifier().verify(&token, NOW, &NONE), Err(TokenError::Malformed(_))));
}

#[test]
fn without_keys_no_token_is_taken() {
    let nobody = verifier_of(&[]).unwrap();
    let token = mint().sign(&claims()).unwrap();
    assert_eq!(nobody.verify(&token, NOW, &NONE).unwrap_err(), TokenError::NoKey);
}

proptest! {
    #[test]
    fn no_text_panics_the_verifier(text in ".{0,200}", parts in ".{0,40}\\.[A-Za-z0-9_-]{0,40}") {
        let _ = verifier().verify(&text, NOW, &NONE);
        let _ = verifier().verify(&format!("eyJhbGciOiJFZERTQSJ9.{parts}"), NOW, &NONE);
    }

    #[test]
    fn no_signed_claims_panic_the_verifier(value in any::<f64>(), text in ".{0,40}") {
        for name in ["exp", "nbf", "aud", "iss", "sub", "scope", "roles"] {
            let _ = check(&with(name, json!(value)));
            let _ = check(&with(name, json!(text)));
            let _ = check(&with(name, json!([text, value, null])));
        }
    }

    #[test]
    fn a_changed_token_is_refused(at in 0usize..200, to in "[A-Za-z0-9_-]") {
        let verifier = verifier();
        let token = mint().sign(&claims()).unwrap();
        let at = at % token.len();
        let mut changed = token.clone();
        changed.replace_range(at..=at, &to);
        prop_assume!(changed != token);
        prop_assert!(verifier.verify(&changed, NOW, &NONE).is_err());
    }

    #[test]
    fn no_key_text_panics_the_reader(text in ".{0,200}") {
        let _ = verifier_of(&[(pem_key(Algorithm::EdDSA), &text)]);
        let _ = verifier_of(&[(jwks_key(), &text)]);
    }
}

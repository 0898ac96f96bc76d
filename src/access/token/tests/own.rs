//! Tokens of the cluster's own keys, and what external tokens' roles, accounts and scopes come to.

use super::*;

const ACCOUNT: &str = "7d0f5b0e-3f5a-4c0e-9c39-1c0a4be286d1";
const CREDENTIAL: &str = "0b0c5f55-87d5-4b0e-8b66-2f6b8f3c1d01";

fn own_mint() -> MintKey {
    MintKey::from_seed(&[21; 32]).unwrap()
}

fn own() -> BTreeMap<Text, [u8; 32]> {
    BTreeMap::from([(own_mint().kid().into(), *own_mint().public())])
}

fn own_claims() -> Value {
    json!({"iss": "holm:test", "aud": "holm", "sub": ACCOUNT, "cid": CREDENTIAL,
        "account": "deployer", "iat": NOW_S, "nbf": NOW_S, "exp": NOW_S + 900, "jti": "1"})
}

fn own_with(name: &str, value: Value) -> Value {
    let mut claims = own_claims();
    claims[name] = value;
    claims
}

fn check_own(claims: &Value) -> Result<Arc<Caller>, TokenError> {
    let token = own_mint().sign(claims).unwrap();
    verifier().verify(&token, NOW, &own()).map(|(caller, _)| caller)
}

#[test]
fn a_token_of_the_cluster_names_its_account_and_credential() {
    let caller = check_own(&own_claims()).unwrap();
    assert_eq!(&**caller.principal(), "deployer");
    let (account, credential) = (Id::parse(ACCOUNT).unwrap(), Id::parse(CREDENTIAL));
    assert_eq!(*caller.identity(), Identity::Account(account, credential));
    assert_eq!((caller.granted.len(), caller.narrowed.clone()), (0, None));
    let narrow = check_own(&own_with("scope", json!("config:read:web/*"))).unwrap();
    assert_eq!((narrow.granted.len(), narrow.narrowed.as_ref().unwrap().len()), (0, 1));
    // What is not understood leaves nothing, rather than everything.
    let damaged = check_own(&own_with("scope", json!("config:reed"))).unwrap();
    assert_eq!(damaged.narrowed.as_ref().unwrap().len(), 0);
}

#[test]
fn wrong_claims_of_the_clusters_own_are_refused_too() {
    use TokenError as E;
    for (claims, error) in [
        (own_with("iss", json!("holm:other")), E::Issuer),
        (own_with("iss", json!("tests")), E::Issuer),
        (own_with("aud", json!("other")), E::Audience),
        (own_with("sub", json!("deployer")), E::Subject),
        (own_with("account", json!("a/b")), E::Subject),
        (own_with("cid", json!(null)), E::Subject),
        (own_with("exp", json!(NOW_S - 30)), E::Expired),
        (own_with("nbf", json!(NOW_S + 31)), E::NotYet),
    ] {
        assert_eq!(check_own(&claims).unwrap_err(), error, "{claims}");
    }
}

#[test]
fn a_retired_keys_tokens_end_at_once_remembered_or_not() {
    let (verifier, token) = (verifier(), own_mint().sign(&own_claims()).unwrap());
    assert!(!verifier.verify(&token, NOW, &own()).unwrap().1);
    assert!(verifier.verify(&token, NOW, &own()).unwrap().1);
    assert_eq!(verifier.verify(&token, NOW, &NONE).unwrap_err(), TokenError::Signature);
    // Another key under its name is another key.
    let other = BTreeMap::from([(own_mint().kid().into(), *mint().public())]);
    assert!(!verifier.verify(&token, NOW, &own()).unwrap().1);
    assert_eq!(verifier.verify(&token, NOW, &other).unwrap_err(), TokenError::Signature);
    assert!(!verifier.verify(&token, NOW, &own()).unwrap().1);
}

#[test]
fn neither_issuer_signs_for_the_other() {
    // The external issuer's key under the cluster's kid, with the cluster's claims.
    let header = json!({"alg": "EdDSA", "kid": own_mint().kid()});
    let forged = mint().sign_with_header(&header, &own_claims()).unwrap();
    let with_kid = KeySettings { kid: Some(mint().kid().to_owned()), ..pem_key(Algorithm::EdDSA) };
    let verifier = verifier_of(&[(with_kid, &mint().public_pem())]).unwrap();
    assert_eq!(verifier.verify(&forged, NOW, &own()).unwrap_err(), TokenError::Signature);
    // Under its own kid: it is the external issuer's, which may not say this.
    let forged = mint().sign(&own_claims()).unwrap();
    assert_eq!(verifier.verify(&forged, NOW, &own()).unwrap_err(), TokenError::Issuer);
    // The cluster's key under the external issuer's kid, with its claims.
    let header = json!({"alg": "EdDSA", "kid": mint().kid()});
    let forged = own_mint().sign_with_header(&header, &claims()).unwrap();
    assert_eq!(verifier.verify(&forged, NOW, &own()).unwrap_err(), TokenError::Signature);
    let forged = own_mint().sign(&claims()).unwrap();
    assert_eq!(verifier.verify(&forged, NOW, &own()).unwrap_err(), TokenError::Issuer);
}

#[test]
fn the_clusters_public_key_is_no_shared_secret_and_its_algorithm_no_choice() {
    let header = json!({"alg": "HS256", "kid": own_mint().kid()});
    for secret in [own_mint().public().to_vec(), own_mint().public_pem().into_bytes()] {
        let secret = EncodingKey::from_secret(&secret);
        let token = sign_as(jsonwebtoken::Algorithm::HS256, &secret, &header);
        assert_eq!(verifier().verify(&token, NOW, &own()).unwrap_err(), TokenError::NoKey);
    }
    for alg in ["none", "RS256", "ES256", "eddsa", ""] {
        let header = json!({"alg": alg, "kid": own_mint().kid()});
        let token = own_mint().sign_with_header(&header, &own_claims()).unwrap();
        assert_eq!(verifier().verify(&token, NOW, &own()).unwrap_err(), TokenError::NoKey, "{alg}");
    }
    for kid in ["", "../../etc/passwd", "x' OR '1'='1", "\0"] {
        let header = json!({"alg": "EdDSA", "kid": kid});
        let token = own_mint().sign_with_header(&header, &own_claims()).unwrap();
        assert!(verifier().verify(&token, NOW, &own()).is_err(), "{kid:?}");
    }
    let nameless = own_mint().sign_with_header(&json!({"alg": "EdDSA"}), &own_claims()).unwrap();
    assert_eq!(verifier().verify(&nameless, NOW, &own()).unwrap_err(), TokenError::Signature);
}

fn narrowing(settings: KeySettings, claims: &Value) -> Caller {
    let settings = KeySettings { scopes: Scopes::Narrow, ..settings };
    let verifier = verifier_of(&[(settings, &mint().public_pem())]).unwrap();
    let (caller, _) = verifier.verify(&mint().sign(claims).unwrap(), NOW, &NONE).unwrap();
    (*caller).clone()
}

#[test]
fn an_issuers_scopes_only_narrow_unless_it_is_trusted_to_grant() {
    let document = DocumentId::parse("web/dev").unwrap();
    let reads =
        |caller: &Caller| decide::read_document(caller, &Rules::default(), &document).is_ok();
    let key = || pem_key(Algorithm::EdDSA);
    assert!(!reads(&narrowing(key(), &claims())));
    let roles = |scope: &str| {
        let mut claims = with("scope", json!(scope));
        claims["roles"] = json!(["operator"]);
        narrowing(key(), &claims)
    };
    assert!(reads(&roles("openid profile")));
    assert!(reads(&roles("openid config:read:web/dev")));
    assert!(!reads(&roles("openid config:read:web/prod")));
    assert!(!reads(&roles("config:reed")));
    assert!(!reads(&roles("secrets:read")));
}

#[test]
fn a_claim_can_name_an_account_of_the_cluster() {
    let key =
        KeySettings { account_claim: Some("holm.account".to_owned()), ..pem_key(Algorithm::EdDSA) };
    for (claim, account) in [
        (json!({"account": "deployer"}), AccountName::new("deployer").ok()),
        (json!({"account": "no name"}), None),
        (json!({"account": 7}), None),
    ] {
        let caller = narrowing(key.clone(), &with("holm", claim));
        assert_eq!(*caller.identity(), Identity::External(account, Vec::new()));
        assert_eq!(&**caller.principal(), "ada");
    }
}

#[test]
fn a_key_set_is_replaced_whole_and_only_by_one_that_can_be_used() {
    let (one, two) = (mint(), MintKey::from_seed(&[8; 32]).unwrap());
    let verifier = verifier_of(&[(jwks_key(), &one.jwks())]).unwrap();
    let (old, new) = (one.sign(&claims()).unwrap(), two.sign(&claims()).unwrap());
    let verify = |token: &str| verifier.verify(token, NOW, &NONE).map(|(_, known)| known);
    assert_eq!(verify(&old), Ok(false));
    assert_eq!(verify(&new), Err(TokenError::NoKey));
    assert!(verifier.replace_keys(0, "{\"keys\": []}").is_err());
    assert!(verifier.replace_keys(0, "<html>").is_err());
    assert_eq!(verifier.replace_keys(0, &one.jwks()), Ok(false));
    assert_eq!(verify(&old), Ok(true));
    assert_eq!(verifier.replace_keys(0, &two.jwks()), Ok(true));
    assert_eq!(verify(&old), Err(TokenError::NoKey));
    assert_eq!(verify(&new), Ok(false));
}

#[tokio::test]
async fn an_unknown_kid_is_told() {
    let verifier = verifier_of(&[(jwks_key(), &mint().jwks())]).unwrap();
    let token = own_mint().sign(&claims()).unwrap();
    assert_eq!(verifier.verify(&token, NOW, &NONE).unwrap_err(), TokenError::NoKey);
    verifier.unknown_kid().await;
}

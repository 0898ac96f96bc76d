//! A token request as it is sent (RFC 6749, sections 2.3.1 and 4.4.2): a form, and the client's name
//! and secret in it or in the header, never in both.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::access::credential::SECRET_LEN_MAX;

/// Longest body that is read, in bytes.
pub(super) const BODY_LEN_MAX: usize = 8 * 1024;
/// Longest client name that is looked at, in bytes.
const CLIENT_LEN_MAX: usize = 64;

/// What is asked for.
pub(super) struct TokenRequest {
    pub(super) client: String,
    pub(super) secret: Zeroizing<String>,
    pub(super) grant_type: String,
    pub(super) scope: String,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadForm {
    /// `invalid_request`, and why.
    Request(&'static str),
    /// `invalid_client`: there is none.
    NoClient,
}

/// Reads a request.
pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<TokenRequest, BadForm> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(BadForm::Request("the body has to be application/x-www-form-urlencoded"));
    }
    let body = std::str::from_utf8(body).map_err(|_| BadForm::Request("the body is not UTF-8"))?;
    let (mut grant_type, mut scope, mut client, mut secret) = (None, None, None, None);
    for pair in body.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name).ok_or(BadForm::Request("a name is not encoded as forms are"))?;
        let slot = match name.as_str() {
            "grant_type" => &mut grant_type,
            "scope" => &mut scope,
            "client_id" => &mut client,
            "client_secret" => &mut secret,
            // Others are passed over (section 3.2).
            _ => continue,
        };
        let value = decode(value).ok_or(BadForm::Request("a value is not encoded as forms are"))?;
        if slot.replace(value).is_some() {
            return Err(BadForm::Request("a parameter stands twice"));
        }
    }
    let in_form = secret.map(Zeroizing::new);
    let (client, secret) = match (basic(headers)?, client, in_form) {
        (Some(_), _, Some(_)) => {
            return Err(BadForm::Request("the client authenticates in two ways"));
        }
        (Some((name, _)), Some(other), None) if name != other => {
            return Err(BadForm::Request("client_id is not who authenticates"));
        }
        (Some(both), _, None) => both,
        (None, Some(client), Some(secret)) => (client, secret),
        (None, ..) => return Err(BadForm::NoClient),
    };
    if client.len() > CLIENT_LEN_MAX || secret.len() > SECRET_LEN_MAX {
        return Err(BadForm::NoClient);
    }
    let grant_type = grant_type.ok_or(BadForm::Request("grant_type is missing"))?;
    Ok(TokenRequest { client, secret, grant_type, scope: scope.unwrap_or_default() })
}

type Pair = (String, Zeroizing<String>);

/// `Authorization: Basic …`, whose parts are encoded as forms are.
fn basic(headers: &HeaderMap) -> Result<Option<Pair>, BadForm> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let read = || {
        let (scheme, text) = value.to_str().ok()?.split_once(' ')?;
        let is_one = values.next().is_none() && scheme.eq_ignore_ascii_case("basic");
        let bytes = is_one.then(|| STANDARD.decode(text.trim()).ok()).flatten()?;
        let text = Zeroizing::new(String::from_utf8(bytes).ok()?);
        let (client, secret) = text.split_once(':')?;
        Some((decode(client)?, Zeroizing::new(decode(secret)?)))
    };
    let mut read = read;
    read().map(Some).ok_or(BadForm::NoClient)
}

/// Undoes a form's encoding; `None` where it is none.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    fn headers(authorization: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, kind);
        if let Some(text) = authorization {
            headers.insert(header::AUTHORIZATION, text.parse().unwrap());
        }
        headers
    }

    fn basic_of(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn a_client_authenticates_in_the_header_or_in_the_form() {
        let form = "grant_type=client_credentials&client_id=ci&client_secret=a%2Bb&scope=x+y&z=1";
        let asked = read(&headers(None), form.as_bytes()).unwrap();
        let shown = (&*asked.client, &**asked.secret, &*asked.grant_type, &*asked.scope);
        assert_eq!(shown, ("ci", "a+b", "client_credentials", "x y"));
        let basic = basic_of("ci:a%2Bb:c");
        let asked = read(&headers(Some(&basic)), b"grant_type=client_credentials").unwrap();
        assert_eq!((&*asked.client, &**asked.secret), ("ci", "a+b:c"));
        let both = b"grant_type=client_credentials&client_id=ci";
        assert!(read(&headers(Some(&basic)), both).is_ok());
    }

    #[test]
    fn what_is_ambiguous_or_missing_is_refused() {
        let basic = basic_of("ci:s");
        let request = |reason| Some(BadForm::Request(reason));
        let no_client = Some(BadForm::NoClient);
        let grant = "grant_type=client_credentials";
        for (authorization, form, error) in [
            (
                Some(&basic),
                format!("{grant}&client_secret=s"),
                request("the client authenticates in two ways"),
            ),
            (
                Some(&basic),
                format!("{grant}&client_id=else"),
                request("client_id is not who authenticates"),
            ),
            (Some(&basic), format!("{grant}&{grant}"), request("a parameter stands twice")),
            (Some(&basic), "scope=x".to_owned(), request("grant_type is missing")),
            (Some(&basic), "scope=%zz".to_owned(), request("a value is not encoded as forms are")),
            (None, grant.to_owned(), no_client),
            (None, format!("{grant}&client_id=ci"), no_client),
            (None, format!("{grant}&client_id={}&client_secret=s", "a".repeat(65)), no_client),
            (Some(&"Bearer x".to_owned()), grant.to_owned(), no_client),
            (Some(&"Basic !".to_owned()), grant.to_owned(), no_client),
        ] {
            let read = read(&headers(authorization.map(String::as_str)), form.as_bytes());
            assert_eq!(read.err(), error, "{form}");
        }
        assert!(matches!(read(&HeaderMap::new(), b""), Err(BadForm::Request(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(body in prop::collection::vec(any::<u8>(), 0..200), text in "[ -~]{0,60}") {
            let _ = read(&headers(None), &body);
            let _ = read(&headers(Some(&text)), text.as_bytes());
        }
    }
}

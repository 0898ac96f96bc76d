//! The names in a path, percent-decoded and checked.

use super::error::ApiError;
use super::query::{bad, decode};
use crate::model::{DocumentId, Environment, Key, Service};

/// The document of `/config/{service}/{environment}…`.
pub(super) fn document(path: &str) -> Result<DocumentId, ApiError> {
    document_in(&mut path.split('/').skip(2))
}

fn document_in<'a>(rest: &mut impl Iterator<Item = &'a str>) -> Result<DocumentId, ApiError> {
    let service = Service::new(&decoded(rest.next())?)?;
    let environment = Environment::new(&decoded(rest.next())?)?;
    Ok(DocumentId::new(service, environment))
}

/// The key of `/config/{service}/{environment}/{key}…`.
pub(super) fn key(path: &str) -> Result<(DocumentId, Key), ApiError> {
    let mut rest = path.split('/').skip(2);
    Ok((document_in(&mut rest)?, Key::new(&decoded(rest.next())?)?))
}

/// The last segment of `/config/{service}/{environment}/{key}/versions/{version}`.
pub(super) fn version(path: &str) -> Result<String, ApiError> {
    segment(path, 5).map(std::borrow::Cow::into_owned)
}

/// What `/cluster/quorum/{change}/{node}` is to do, and to whom.
pub(super) fn member_change(path: &str) -> Result<(String, String), ApiError> {
    Ok((segment(path, 2)?.into_owned(), segment(path, 3)?.into_owned()))
}

/// The name of `/{kind}/{name}…`, where that is a resource of its own.
pub(super) fn name(path: &str) -> Result<String, ApiError> {
    segment(path, 1).map(std::borrow::Cow::into_owned)
}

/// The last segment of `/accounts/{account}/credentials/{credential}`.
pub(super) fn credential(path: &str) -> Result<String, ApiError> {
    segment(path, 3).map(std::borrow::Cow::into_owned)
}

/// The last segment of `/config/{service}/{environment}/{key}/roles/{role}`.
pub(super) fn role(path: &str) -> Result<String, ApiError> {
    segment(path, 5).map(std::borrow::Cow::into_owned)
}

/// The last segment of `/secrets/{secret}`.
pub(super) fn secret(path: &str) -> Result<String, ApiError> {
    segment(path, 1).map(std::borrow::Cow::into_owned)
}

/// The last segment of `/cluster/keys/{generation}`.
pub(super) fn generation(path: &str) -> Result<u32, ApiError> {
    let text = segment(path, 2)?;
    text.parse().map_err(|_| bad("generation", "has to be a generation's number: 1, 2, 3, …"))
}

/// The last segment of `/cluster/signing-keys/{kid}`.
pub(super) fn kid(path: &str) -> Result<String, ApiError> {
    segment(path, 2).map(std::borrow::Cow::into_owned)
}

/// The last segment of `/cluster/history/{environment}`, if there is one.
pub(super) fn environment_of_policy(path: &str) -> Result<Option<Environment>, ApiError> {
    match path.split('/').nth(3) {
        None => Ok(None),
        Some(_) => Ok(Some(Environment::new(&segment(path, 2)?)?)),
    }
}

fn segment(path: &str, at: usize) -> Result<std::borrow::Cow<'_, str>, ApiError> {
    decoded(path.split('/').nth(at + 1))
}

fn decoded(segment: Option<&str>) -> Result<std::borrow::Cow<'_, str>, ApiError> {
    decode(segment.unwrap_or_default(), false)
        .ok_or_else(|| bad("path", "is not percent-encoded UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_from_their_places() {
        let path = "/config/web/dev/server%3Aport/versions/7%40a";
        let (document, key) = key(path).unwrap();
        assert_eq!((document.to_string().as_str(), key.as_str()), ("web/dev", "server:port"));
        assert_eq!(version(path).unwrap(), "7@a");
    }

    #[test]
    fn a_bad_name_says_which_one_it_is() {
        for (path, field) in [
            ("/config/we%20b/dev/k", "service"),
            ("/config/web/d%2Fev/k", "environment"),
            ("/config/web/dev/k%00", "key"),
            ("/config/web/dev/%2E%2E", "key"),
            ("/config//dev/k", "service"),
        ] {
            let Err(ApiError::BadName(error)) = key(path) else { panic!("{path}") };
            assert_eq!(error.field(), field, "{path}");
        }
        assert!(matches!(key("/config/web/dev/%zz"), Err(ApiError::BadQuery { .. })));
    }
}

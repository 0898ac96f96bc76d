use super::*;
use proptest::prelude::*;

fn limits() -> Limits {
    Limits {
        value_bytes_max: 20,
        entries_per_write_max: 3,
        message_bytes_max: 8,
        ..Limits::default()
    }
}

fn read(text: &str) -> Result<Post, ApiError> {
    post(text.as_bytes(), &limits())
}

fn shown(post: &Post) -> Vec<String> {
    let operation = |it: &Operation| match &it.action {
        Action::Put(value) => format!("{}={value} {:?}", it.key, it.check),
        other => panic!("{other:?}"),
    };
    post.operations.iter().map(operation).collect()
}

#[test]
fn one_key_and_many_are_read_in_all_their_forms() {
    let one = read(r#" {"key": "a", "value": {"x" : 1}, "message": "why", "expect_version": 3} "#);
    let one = one.unwrap();
    assert!(one.single);
    assert_eq!(shown(&one), [r#"a={"x":1} Version(3)"#]);
    assert_eq!(one.message.as_deref(), Some("why"));
    let many = read(r#"{"entries": {"a": null, "\u0062": 1.50}}"#).unwrap();
    assert_eq!(shown(&many), ["a=null None", "b=1.50 None"]);
    let list = r#"{"entries": [{"key":"a","value":1,"expect_version":0},{"value":2,"key":"b"}]}"#;
    let list = read(list).unwrap();
    assert_eq!(shown(&list), ["a=1 Absent", "b=2 None"]);
    assert!(!many.single && !list.single);
}

#[test]
fn what_is_wrong_is_named() {
    let field = |field: &str, reason: &str| bad_field(field, reason);
    for (text, error) in [
        (r#"{"value":1}"#, field("key", "is missing")),
        (r#"{"key":"a"}"#, field("value", "is missing")),
        (r#"{"key":7,"value":1}"#, field("key", "has to be a text")),
        (r#"{"key":"a","value":1,"key":"b"}"#, field("key", "stands twice")),
        (r#"{"key":"a","value":1,"valeu":1}"#, ApiError::UnknownField("valeu".into())),
        (r#"{"entries":{},"key":"a"}"#, field("key", "cannot stand beside entries")),
        (r#"{"entries":{}}"#, field("entries", "is empty")),
        (r#"{"entries":[]}"#, field("entries", "is empty")),
        (r#"{"entries":7}"#, field("entries", "has to be an object or a list")),
        (r#"{"entries":{"a":1,"\u0061":2}}"#, ApiError::DuplicateKey("a".into())),
        (
            r#"{"entries":[{"key":"a","value":1},{"key":"a","value":1}]}"#,
            ApiError::DuplicateKey("a".into()),
        ),
        (r#"{"entries":[{"key":"a"}]}"#, field("entries[0].value", "is missing")),
        (
            r#"{"entries":[{"key":"a","value":1,"message":"m"}]}"#,
            ApiError::UnknownField("entries[0].message".into()),
        ),
        (r#"{"entries":{"a":1,"b":1,"c":1,"d":1}}"#, ApiError::TooManyEntries { count: 4, max: 3 }),
        (
            r#"{"key":"a","value":"0123456789012345678"}"#,
            ApiError::ValueTooLarge { key: Key::new("a").unwrap(), len: 21, max: 20 },
        ),
        (
            r#"{"key":"a","value":1,"message":"too long!"}"#,
            field("message", "has more than 8 bytes"),
        ),
    ] {
        assert_eq!(read(text).unwrap_err(), error, "{text}");
    }
    for version in ["-1", "1.5", "\"1\"", "true", "99999999999999999999"] {
        let text = format!(r#"{{"key":"a","value":1,"expect_version":{version}}}"#);
        assert!(
            matches!(read(&text), Err(ApiError::BadField { field, .. }) if field == "expect_version"),
            "{version}"
        );
    }
    assert!(matches!(read(r#"{"key":"a b","value":1}"#), Err(ApiError::BadName(_))));
    assert!(matches!(read(r#"{"entries":{"":1}}"#), Err(ApiError::BadName(_))));
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    for (text, place) in [
        ("", "line 1 column 0"),
        ("{", "line 1 column 1"),
        ("{\"key\":\n tru}", "line 2"),
        ("[]", "expected an object"),
        ("{} {}", "trailing characters at line 1 column 4"),
        (r#"{"key":"a","value":{"x":1,"x":2}}"#, "the value of a: the name \"x\" stands twice"),
    ] {
        let Err(ApiError::BadJson(reason)) = read(text) else { panic!("{text:?}") };
        assert!(reason.contains(place), "{text:?}: {reason}");
    }
    let deep = format!(r#"{{"key":"a","value":{}{}}}"#, "[".repeat(65), "]".repeat(65));
    assert!(matches!(read(&deep), Err(ApiError::BadJson(reason)) if reason.contains("deep")));
    let deepest = format!(r#"{{"key":"a","value":{}"#, "[".repeat(1_000_000));
    assert!(matches!(read(&deepest), Err(ApiError::BadJson(_))));
    let latin = post(b"{\"key\":\"\xe4\"}", &limits());
    assert!(matches!(latin, Err(ApiError::BadJson(reason)) if reason.contains("byte 8")));
}

#[test]
fn a_whole_number_is_one_however_it_is_written() {
    for (text, number) in [("7", 7), ("7.0", 7), ("7e0", 7), ("70e-1", 7), ("0", 0), ("-0.0", 0)] {
        assert_eq!(whole(text), Some(number), "{text}");
    }
    assert_eq!(whole("18446744073709551615"), Some(u64::MAX));
    for bad in ["7.5", "-1", "1e300", "\"7\"", "true", "null", "", "[7]"] {
        assert_eq!(whole(bad), None, "{bad}");
    }
}

#[test]
fn a_restore_names_its_version() {
    let read = |text: &str| restore(text.as_bytes(), &limits());
    assert_eq!(read(r#"{"version":7}"#).unwrap().0, "7");
    let (version, message) = read(r#"{"version":"7@ab","message":"m"}"#).unwrap();
    assert_eq!((version.as_str(), message.as_deref()), ("7@ab", Some("m")));
    for bad in ["{}", r#"{"version":null}"#, r#"{"version":[7]}"#, r#"{"version":7,"v":1}"#] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn types_are_json_or_what_is_asked_for() {
    let check = |value: &str, also| {
        let value = value.parse().unwrap();
        check_type(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]), also).is_ok()
    };
    let patch = Some("application/merge-patch+json");
    assert!(check("application/json; charset=UTF-8", None));
    assert!(check("application/merge-patch+json", patch) && check("Application/JSON", patch));
    assert!(!check("application/merge-patch+json", None));
    assert!(!check("application/json; charset=latin1", None));
    assert!(!check("application/x-www-form-urlencoded", None));
    assert!(check_type(&HeaderMap::new(), None).is_ok());
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit_and_no_longer_than_its_time() {
    let wait = Duration::from_secs(5);
    let none = HeaderMap::new();
    let read_all = |body| read_body(&none, body, wait);
    async fn read_body(headers: &HeaderMap, body: Body, wait: Duration) -> Result<Bytes, ApiError> {
        super::read(headers, body, 4, wait).await
    }
    assert_eq!(read_all(Body::from("1234")).await.unwrap(), "1234");
    let too_large = ApiError::BodyTooLarge { max: 4 };
    assert_eq!(read_all(Body::from("12345")).await.unwrap_err(), too_large);
    // Said in advance: nothing of it is read.
    let said = HeaderMap::from_iter([(header::CONTENT_LENGTH, "5".parse().unwrap())]);
    let pending = || {
        let chunks = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        Body::from_stream(chunks)
    };
    assert_eq!(read_body(&said, pending(), wait).await.unwrap_err(), too_large);
    let slow = read_body(&none, pending(), Duration::from_millis(1)).await;
    assert_eq!(slow.unwrap_err(), ApiError::RequestTooSlow);
}

proptest! {
    #[test]
    fn no_bytes_panic_the_readers(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = post(&bytes, &limits());
        let _ = restore(&bytes, &limits());
        let _ = value(&bytes);
    }

    #[test]
    fn no_json_panics_the_readers(text in r#"\{("(key|value|entries|version)":[\[\]{}", a1:]{0,12},?){0,3}\}?"#) {
        let _ = read(&text);
        let _ = restore(text.as_bytes(), &limits());
    }

    #[test]
    fn entries_are_read_as_they_were_written(
        map in proptest::collection::btree_map("[a-z.]{3,9}", -9i32..9, 1..3)
    ) {
        let body = serde_json::json!({ "entries": map }).to_string();
        let expected: Vec<String> = map.iter().map(|(k, v)| format!("{k}={v} None")).collect();
        prop_assert_eq!(shown(&read(&body).unwrap()), expected);
    }
}

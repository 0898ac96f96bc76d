//! Claims about the formats, on the files of a real project and on generated ones.

use std::path::Path;

use proptest::prelude::*;

use super::{Environments, Format, Keys, losses, parse, write, yaml};
use crate::model::{Environment, JsonText, Key};

const FORMATS: [Format; 5] =
    [Format::Yaml, Format::Json, Format::Toml, Format::Env, Format::Properties];

fn default() -> Environment {
    Environment::new("default").unwrap()
}

fn read(format: Format, text: &str) -> Environments {
    parse(format, text.as_bytes(), &default()).unwrap()
}

fn refused(format: Format, text: &str) -> String {
    parse(format, text.as_bytes(), &default()).unwrap_err().to_string()
}

/// Environments as `env key=value` lines.
fn lines(environments: &Environments) -> Vec<String> {
    let keys = environments.iter().flat_map(|(name, keys)| keys.iter().map(move |key| (name, key)));
    keys.map(|(name, (key, value))| format!("{name} {key}={value}")).collect()
}

fn keys(of: &[(&str, &str)]) -> Keys {
    let one =
        |(key, value): &(&str, &str)| (Key::new(key).unwrap(), JsonText::parse(value).unwrap());
    of.iter().map(one).collect()
}

#[test]
fn dotted_and_nested_spellings_are_one_key_and_lists_stay_json() {
    let yaml = "a.b: 1\na:\n  b: 1\n  c.d: [1, {x: y}]\ne: {}\nf:\ng: []\n";
    let expected = ["default a.b=1", r#"default a.c.d=[1,{"x":"y"}]"#, "default e={}"];
    let expected = [&expected[..], &["default f=null", "default g=[]"]].concat();
    assert_eq!(lines(&read(Format::Yaml, yaml)), expected);
    let json = r#"{"a.b":1,"a":{"b":1,"c":{"d":[1,{"x":"y"}]}},"e":{},"f":null,"g":[]}"#;
    assert_eq!(lines(&read(Format::Json, json)), expected);
    let toml = "e = {}\ng = []\na.b = 1\n[a.c]\nd = [1, {x = 'y'}]\n";
    let without_null: Vec<&str> = expected.into_iter().filter(|l| !l.contains("null")).collect();
    assert_eq!(lines(&read(Format::Toml, toml)), without_null);
}

#[test]
fn two_values_of_one_key_in_a_document_are_refused_with_both_places() {
    let message = refused(Format::Yaml, "a.b: 1\nx: 0\na:\n  b: 2\n");
    assert_eq!(message, "the key `a.b` has two values in one document: line 1: 1, and line 4: 2");
    assert!(refused(Format::Properties, "a=1\na=2\n").contains("line 2: \"2\""));
    assert!(refused(Format::Env, "A=1\n\nA=2\n").contains("line 3: \"2\""));
    assert!(refused(Format::Toml, "\"a.b\" = 1\na.b = 2\n").contains("line 2: 2"));
    assert!(refused(Format::Json, r#"{"a":1,"a":2}"#).contains("two values"));
    // In a later document of the same environment the later value holds.
    assert_eq!(lines(&read(Format::Yaml, "a: 1\n---\na: 2\n")), ["default a=2"]);
    assert!(refused(Format::Yaml, "a: 1\na: 1\n").contains("line 2"));
}

#[test]
fn a_spring_profile_is_an_environment_and_no_key() {
    let yaml = "a: 1\n---\nspring:\n  config:\n    activate:\n      on-profile: docker | k8s\na: 2\n\
                ---\nspring.profiles: [old, older]\nspring.profiles.active: x\n---\n";
    assert_eq!(
        lines(&read(Format::Yaml, yaml)),
        [
            "default a=1",
            "docker a=2",
            "k8s a=2",
            r#"old spring.profiles.active="x""#,
            r#"older spring.profiles.active="x""#
        ]
    );
    let properties = "a=1\n#---\nspring.config.activate.on-profile=docker,k8s\na=2\n";
    assert_eq!(
        lines(&read(Format::Properties, properties)),
        [r#"default a="1""#, r#"docker a="2""#, r#"k8s a="2""#]
    );
    for expression in ["\"!docker\"", "a & b", "(a | b)", "\"\"", "[[a]]", "a b"] {
        let message = refused(
            Format::Yaml,
            &format!("x: 1\nspring.config.activate.on-profile: {expression}\n"),
        );
        assert!(message.starts_with("line 2: the profile"), "{message}");
    }
    let cloud = "spring.config.activate.on-cloud-platform: kubernetes\na: 1\n";
    assert!(refused(Format::Yaml, cloud).contains("on-cloud-platform"));
}

#[test]
fn yaml_scalars_that_readers_disagree_on_stay_strings() {
    for (text, value) in [
        ("yes", "\"yes\""),
        ("on", "\"on\""),
        ("NO", "\"NO\""),
        ("0755", "\"0755\""),
        ("1_000", "\"1_000\""),
        ("2024-01-01", "\"2024-01-01\""),
        ("12:30:00", "\"12:30:00\""),
        ("1.2.3", "\"1.2.3\""),
        ("!!str 1", "\"1\""),
        ("'1'", "\"1\""),
        ("~", "null"),
        ("True", "true"),
        ("0x1F", "31"),
        ("0o17", "15"),
        ("+1", "1"),
        ("-0", "-0"),
        (".5", "0.5"),
        ("1.10", "1.10"),
        ("1e3", "1e3"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("0.1000000000000000000001", "0.1000000000000000000001"),
        ("|\n  two\n  lines", "\"two\\nlines\\n\""),
        ("${a:b}/${c}", "\"${a:b}/${c}\""),
    ] {
        let read = read(Format::Yaml, &format!("k: {text}\n"));
        assert_eq!(lines(&read), [format!("default k={value}")], "{text}");
    }
    for bad in [".inf", "-.inf", ".nan", "1e999", "!secret x", "!!binary gA=="] {
        let message = refused(Format::Yaml, &format!("a: 1\nk: {bad}\n"));
        assert!(message.starts_with("line 2: "), "{bad}: {message}");
    }
}

#[test]
fn yaml_keys_are_the_text_that_stands_there() {
    assert_eq!(
        lines(&read(Format::Yaml, "on: 1\n8080: 2\n1.10: 3\n'x': 4\n0755: 5\n")),
        ["default 0755=5", "default 1.10=3", "default 8080=2", "default on=1", "default x=4"]
    );
    for bad in ["~: 1", "? [a]\n: 1", "? {a: 1}\n: 1", "'': 1", "a b: 1", "- a", "just text"] {
        assert!(parse(Format::Yaml, bad.as_bytes(), &default()).is_err(), "{bad}");
    }
    assert_eq!(lines(&read(Format::Yaml, "# nothing\n---\n---\n~\n")), Vec::<String>::new());
}

#[test]
fn toml_scalars_keep_their_type_and_digits() {
    for (text, value) in [
        ("1_000", "1000"),
        ("+7", "7"),
        ("-0", "-0"),
        ("0xFF", "255"),
        ("0o17", "15"),
        ("0b11", "3"),
        ("99999999999999999999", "99999999999999999999"),
        ("1_0.50", "10.50"),
        ("+1e05", "1e05"),
        ("true", "true"),
        ("1979-05-27T07:32:00Z", "\"1979-05-27T07:32:00Z\""),
        ("'a\\b'", "\"a\\\\b\""),
    ] {
        let read = read(Format::Toml, &format!("k = {text}\n"));
        assert_eq!(lines(&read), [format!("default k={value}")], "{text}");
    }
    for bad in ["inf", "-inf", "nan", "0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", "01"] {
        let message = refused(Format::Toml, &format!("a = 1\nk = {bad}\n"));
        assert!(message.starts_with("line 2: "), "{bad}: {message}");
    }
}

#[test]
fn yaml_anchors_and_merge_keys_are_resolved_within_limits() {
    let yaml = "base: &b\n  x: 1.10\n  y: 2\nweb:\n  <<: *b\n  y: 3\nn: *b\n";
    assert_eq!(
        lines(&read(Format::Yaml, yaml)),
        [
            "default base.x=1.10",
            "default base.y=2",
            "default n.x=1.10",
            "default n.y=2",
            "default web.x=1.10",
            "default web.y=3"
        ]
    );
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..10 {
        let last = format!("*a{}", i - 1);
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", [last.as_str(); 10].join(", ")));
    }
    assert!(!refused(Format::Yaml, &bomb).is_empty());
    assert!(!refused(Format::Yaml, &format!("a: {}", "[".repeat(100_000))).is_empty());
    assert!(!refused(Format::Json, &format!("{{\"a\":{}", "[".repeat(100_000))).is_empty());
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(90), "]".repeat(90));
    assert!(refused(Format::Json, &deep).contains("levels deep"));
    assert!(!refused(Format::Toml, &format!("a = {}", "[".repeat(100_000))).is_empty());
}

#[test]
fn keys_that_holm_has_not_are_refused_by_line_and_name() {
    for (format, text) in [
        (Format::Yaml, "a: 1\nb:\n  'c[0]': 1\n"),
        (Format::Toml, "a = 1\n\n\"b.c[0]\" = 1\n"),
        (Format::Properties, "a=1\n\nb.c[0]=1\n"),
        (Format::Env, "a=1\n\nb.c[0]=1\n"),
    ] {
        let message = refused(format, text);
        assert!(message.starts_with("line 3: the key `b.c[0]` cannot be imported"), "{message}");
    }
    assert!(refused(Format::Json, r#"{"a b":1}"#).contains("the key `a b`"));
    assert!(refused(Format::Yaml, "- a\n- b\n").contains("a map of keys"));
}

#[test]
fn a_byte_order_mark_is_passed_over_and_other_bytes_are_not_guessed_at() {
    for format in FORMATS {
        let text = write(format, &[(default(), keys(&[("a", "\"1\"")]))].into(), &default());
        let marked = [b"\xEF\xBB\xBF", text.as_bytes()].concat();
        assert_eq!(lines(&parse(format, &marked, &default()).unwrap()), [r#"default a="1""#]);
        assert_eq!(
            parse(format, b"a=\xE4", &default()).is_ok(),
            format == Format::Properties,
            "{format:?}"
        );
    }
    let latin = parse(Format::Properties, b"a=\xE4", &default()).unwrap();
    assert_eq!(lines(&latin), ["default a=\"ä\""]);
}

#[test]
fn properties_follow_java() {
    let text = "# c\n  ! c\na = x \\\n   y\\\n!z\nb:1\nc\td e\nd\\:e\\=f = g=h\nempty\nu=\\u00e4\\uD83D\\uDE00\\t\\q\n\
                path=C:\\\\x\n";
    assert_eq!(
        lines(&parse(Format::Properties, text.as_bytes(), &default()).unwrap_or_default()),
        Vec::<String>::new(),
        "`d:e=f` has a character that keys have not"
    );
    let text = text.replace("\\=f", "");
    assert_eq!(
        lines(&read(Format::Properties, &text)),
        [
            r#"default a="x y!z""#,
            r#"default b="1""#,
            r#"default c="d e""#,
            r#"default d:e="g=h""#,
            r#"default empty="""#,
            r#"default path="C:\\x""#,
            r#"default u="ä😀\tq""#
        ]
    );
    assert!(refused(Format::Properties, "a=1\nb=\\u12").starts_with("line 2: "));
    assert!(refused(Format::Properties, "a=\\uD83D").contains("surrogate"));
}

#[test]
fn dotenv_quotes_comments_and_placeholders() {
    let text = "# c\r\nexport A=1 # c\nB='x # ${y}' # c\nC=\"l1\nl2\\n\\\"\\$z\"\nD=\nE=a#b\nF= sp \nG=${H:-x}\n";
    assert_eq!(
        lines(&read(Format::Env, text)),
        [
            r#"default A="1""#,
            r#"default B="x # ${y}""#,
            r#"default C="l1\nl2\n\"$z""#,
            r#"default D="""#,
            r#"default E="a#b""#,
            r#"default F="sp""#,
            r#"default G="${H:-x}""#
        ]
    );
    assert!(refused(Format::Env, "A=1\nB").starts_with("line 2: "));
    assert!(refused(Format::Env, "A=\"\n\n").contains("never closed"));
    assert!(refused(Format::Env, "A='b'c").contains("only a comment"));
}

#[test]
fn a_key_that_begins_others_keeps_the_others_dotted() {
    let environments: Environments =
        [(default(), keys(&[("a", "1"), ("a.b.c", "2"), ("a.b.d", "3"), ("a..x", "4")]))].into();
    assert_eq!(
        write(Format::Yaml, &environments, &default()),
        "a: 1\na.b.c: 2\na.b.d: 3\na..x: 4\n"
    );
    for format in [Format::Yaml, Format::Json, Format::Toml] {
        assert_eq!(read(format, &write(format, &environments, &default())), environments);
    }
}

#[test]
fn what_a_format_cannot_hold_is_named() {
    let docker = Environment::new("docker").unwrap();
    let environments: Environments = [
        (default(), keys(&[("n", "null"), ("o", "{\"a\":1}"), ("i", "[99999999999999999999]")])),
        (docker, keys(&[("spring.profiles", "\"x\"")])),
    ]
    .into();
    let named = |format| -> Vec<String> {
        let losses = losses(format, &environments, &default());
        losses.iter().map(|l| format!("{} {} {}", l.environment, l.key, l.type_alone)).collect()
    };
    assert_eq!(named(Format::Yaml), ["default o false", "docker spring.profiles false"]);
    assert_eq!(
        named(Format::Toml),
        ["default i false", "default n false", "default o false", "docker spring.profiles false"]
    );
    assert_eq!(
        named(Format::Env),
        ["default i true", "default n true", "default o true", "docker spring.profiles false"]
    );
}

#[test]
fn every_file_of_the_petclinic_reads_back_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/petclinic-config");
    let mut count = 0;
    let mut names = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yml") {
            continue;
        }
        count += 1;
        let bytes = std::fs::read(&path).unwrap();
        let environments = parse(Format::Yaml, &bytes, &default()).unwrap();
        names.extend(environments.keys().map(Environment::to_string));
        for format in FORMATS {
            for (name, keys) in &environments {
                let one: Environments = [(name.clone(), keys.clone())].into();
                if losses(format, &one, name).is_empty() {
                    let text = write(format, &one, name);
                    assert_eq!(parse(format, text.as_bytes(), name).unwrap(), one, "{path:?}");
                }
            }
        }
        let text = write(Format::Yaml, &environments, &default());
        assert_eq!(read(Format::Yaml, &text), environments, "{path:?}");
    }
    assert_eq!(count, 9);
    assert_eq!(Vec::from_iter(names), ["chaos-monkey", "default", "docker", "mysql"]);
}

fn any_value() -> impl Strategy<Value = JsonText> {
    let leaf = prop_oneof![
        3 => any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        3 => "[ -~]{0,12}".prop_map(|text| serde_json::Value::from(text).to_string()),
        1 => "(yes|no|null|true|~|1|-|#|a: b|a #b|'|\"|---|1e5|0x1|=|<<|\\$\\{a\\}|\\.inf)"
            .prop_map(|text| serde_json::Value::from(text).to_string()),
        2 => "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?",
        1 => Just("null".to_owned()),
        1 => any::<bool>().prop_map(|value| value.to_string()),
        1 => Just("{}".to_owned()),
    ];
    let tree = leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::btree_map("[a-z.\\PC]{0,6}", inner, 0..4).prop_map(|members| {
                let member = |(name, value)| format!("{}:{value}", serde_json::Value::from(name));
                let members: Vec<String> = members.into_iter().map(member).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    tree.prop_map(|text| JsonText::parse(&text).unwrap())
}

fn any_environments() -> impl Strategy<Value = Environments> {
    let key = prop_oneof![
        "[ab](\\.[ab]){0,3}",
        "[a-cA-C0-9._:-]{1,12}".prop_filter("a name", |text| Key::new(text).is_ok()),
        "[ab](\\.[a-z]){20,60}",
        "(yes|null|on|1|~|true)".prop_filter("a name", |text| Key::new(text).is_ok()),
    ];
    let key = key.prop_map(|text| Key::new(&text).unwrap());
    let keys = proptest::collection::btree_map(key, any_value(), 1..8);
    let name =
        "(default|docker|a:1|1|yes|[a-z.-]{3,5})".prop_map(|t| Environment::new(&t).unwrap());
    proptest::collection::btree_map(name, keys, 1..4)
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(all in any_environments()) {
        for format in FORMATS {
            let mut held = all.clone();
            for loss in losses(format, &all, &default()) {
                held.get_mut(&loss.environment).unwrap().remove(&loss.key);
            }
            held.retain(|_, keys| !keys.is_empty());
            let text = write(format, &held, &default());
            let read = parse(format, text.as_bytes(), &default());
            prop_assert_eq!(read.as_ref(), Ok(&held), "{:?}\n{}", format, text);
        }
    }

    #[test]
    fn values_as_deep_as_they_may_be_read_back(levels in 1usize..=64, key in "a(\\.b){0,20}") {
        let value = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        let held: Environments = [(default(), keys(&[(&key, &value)]))].into();
        for format in [Format::Yaml, Format::Json, Format::Toml] {
            if format == Format::Yaml && levels > yaml::VALUE_DEPTH_MAX {
                prop_assert_eq!(losses(format, &held, &default()).len(), 1);
                continue;
            }
            let text = write(format, &held, &default());
            let read = parse(format, text.as_bytes(), &default());
            prop_assert_eq!(read.as_ref(), Ok(&held));
        }
    }

    #[test]
    fn no_bytes_panic_a_reader(
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
        text in "[a-b:='\"\\\\#\\n \\[\\]{}&*!|<,.0-9-]{0,40}",
    ) {
        for format in FORMATS {
            let _ = parse(format, &bytes, &default());
            let _ = parse(format, text.as_bytes(), &default());
        }
    }
}

use super::*;

#[test]
fn an_empty_text_gives_the_defaults() {
    let settings = Settings::from_toml("").unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.limits.value_bytes_max, 262_144);
    assert_eq!(settings.http.session_wait_default, Duration::from_secs(1));
}

#[test]
fn every_part_reads_from_toml() {
    let settings = Settings::from_toml(
        r#"
        data_dir = "/var/lib/holm"
        alone = true
        [limits]
        value_bytes_max = 1000
        [http]
        session_wait_default = "250ms"
        request_timeout = "1m 30s"
        [gossip]
        max_clock_skew = "2s"
        [epochs]
        soft_cap = 0
        removals_keep = "2h"
        [rates]
        reads_per_second = 0
        [access]
        leeway = "5s"
        [[access.keys]]
        jwks_file = "keys.json"
        algorithms = ["ES256", "RS256"]
        issuer = "https://login.example"
        audience = "holm"
        roles_claim = "realm_access.roles"
        [access.roles]
        dev-team = ["config:read", "config:write:*/dev"]
        [log]
        format = "text"
        level = "debug"
        "#,
    )
    .unwrap();
    assert!(settings.alone);
    assert_eq!((settings.rates.reads_per_second, settings.rates.writes_per_second), (0, 2_000));
    assert_eq!(settings.limits.value_bytes_max, 1000);
    assert_eq!(settings.http.session_wait_default, Duration::from_millis(250));
    assert_eq!(settings.http.request_timeout, Duration::from_secs(90));
    assert_eq!(settings.gossip.max_clock_skew, Duration::from_secs(2));
    assert_eq!((settings.epochs.soft_cap, settings.epochs.hard_cap), (0, 100_000));
    assert_eq!(settings.epochs.removals_keep, Duration::from_secs(7_200));
    assert_eq!(settings.access.keys[0].algorithms, [Algorithm::ES256, Algorithm::RS256]);
    assert_eq!(settings.access.roles["dev-team"].len(), 2);
    assert_eq!(settings.log.format, LogFormat::Text);
}

#[test]
fn what_cannot_be_meant_is_refused_by_name() {
    let key = "[[access.keys]]\naudience = 'a'\nalgorithms = ['EdDSA']\n";
    for (text, named) in [
        ("datadir = 'x'", "datadir"),
        ("[limits]\nvalue_bytes = 1", "value_bytes"),
        ("[limits]\npage_size_max = 0", "limits.page_size_max"),
        ("[limits]\npage_size_default = 2000", "limits.page_size_default"),
        ("[limits]\nvalue_bytes_max = 100000000", "limits.value_bytes_max"),
        ("[limits]\nwrites_max = 0", "limits.writes_max"),
        ("[limits]\nbodies_bytes_max = 5000000", "limits.bodies_bytes_max"),
        ("[limits]\nanswers_bytes_max = 5000000", "limits.answers_bytes_max"),
        ("[limits]\nanswers_bytes_max = 2000000000000", "limits.answers_bytes_max"),
        ("[rates]\nwrites_burst = 0", "rates.writes_burst"),
        ("[rates]\nclients_max = 0", "rates.clients_max"),
        ("[http]\nrequest_timeout = 30", "request_timeout"),
        ("[http]\nrequest_timeout = '30'", "length of time"),
        ("[http]\nrequest_timeout = '-3s'", "below 0"),
        ("[http]\nrequest_timeout = '0s'", "http.request_timeout"),
        ("[http]\nwrite_timeout = '0s'", "http.write_timeout"),
        ("[log]\nformat = 'xml'", "xml"),
        ("[storage]\ncompact_check_every = '0s'", "storage.compact_check_every"),
        ("[storage]\nprune_every = '0s'", "storage.prune_every"),
        ("[audit]\narchive_every = '9s'", "audit.archive_every"),
        ("[audit]\narchive_bytes = 9000000", "audit.archive_bytes"),
        ("[audit]\nkeep = '1h'", "audit.keep"),
        ("[traces]\notlp_url = 'ftp://x'", "traces.otlp_url"),
        ("[traces]\notlp_url = 'https://x'", "otlp_ca_file"),
        ("[epochs]\nsoft_cap = 5", "epochs.soft_cap"),
        ("[epochs]\nsoft_cap = 50\nhard_cap = 50", "epochs.hard_cap"),
        ("[epochs]\ncheck_every = '0s'", "epochs.check_every"),
        ("[gossip]\nevict_after = '5s'\nevict_named_after = '9s'", "gossip.evict_named_after"),
        ("[gossip]\nevict_after = '20s'\nevict_named_after = '19s'", "gossip.evict_named_after"),
        ("[gossip]\nevict_after = '8785h'\nevict_named_after = '8785h'", "gossip.evict_after"),
        ("[gossip]\nevict_named_after = '8785h'", "gossip.evict_named_after"),
        ("[epochs]\nevict_after = '9s'", "epochs.evict_after (now gossip.evict_named_after)"),
        ("[traces]\nsample = -1.0", "traces.sample"),
        ("[log]\nread_sample = 1.5", "log.read_sample"),
        ("[log]\nread_sample = nan", "log.read_sample"),
        (key, "access.keys[0]"),
        ("[[access.keys]]\npem = 'x'\nalgorithms = ['EdDSA']", "audience"),
        ("[[access.keys]]\npem = 'x'\naudience = 'a'", "algorithms"),
        ("[[access.keys]]\npem = 'x'\naudience = 'a'\nalgorithms = ['HS256']", "HS256"),
        ("[[access.keys]]\npem = 'x'\naudience = 'a'\nalgorithms = ['none']", "none"),
        ("[[access.keys]]\npem = 'x'\naudience = 'a'\nalgorithms = ['ES256','EdDSA']", "one algo"),
    ] {
        let error = Settings::from_toml(text).unwrap_err().to_string();
        assert!(error.contains(named), "{text:?}: {error}");
    }
}

#[test]
fn the_old_name_of_a_setting_is_read_and_warned_of_and_not_beside_the_new_one() {
    let old = Settings::from_toml("[epochs]\nevict_after = '2h'").unwrap();
    assert_eq!(old.evict_named_after(), Duration::from_secs(7_200));
    let said: Vec<&str> = old.outdated().collect();
    assert_eq!(said, ["epochs.evict_after is now gossip.evict_named_after"]);
    let new = Settings::from_toml("[gossip]\nevict_named_after = '2h'").unwrap();
    assert_eq!(new.evict_named_after(), old.evict_named_after());
    assert_eq!(new.outdated().count() + Settings::default().outdated().count(), 0);
    let both = "[gossip]\nevict_named_after = '2h'\n[epochs]\nevict_after = '2h'";
    let error = Settings::from_toml(both).unwrap_err().to_string();
    assert!(error.contains("is now gossip.evict_named_after, which is set, too"), "{error}");
}

#[test]
fn lengths_of_time_read_as_people_write_them() {
    assert_eq!(duration::parse("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(duration::parse("1h 2m"), Ok(Duration::from_secs(3_720)));
    for bad in ["", "1", "1y", "soon", "-1s"] {
        assert!(duration::parse(bad).is_err(), "{bad:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics_the_reader(text in ".{0,200}") {
        let _ = Settings::from_toml(&text);
        let _ = duration::parse(&text);
    }
}

#[test]
fn a_master_key_comes_from_a_file_or_the_environment_and_never_from_the_settings() {
    let read = |keys: &str| Settings::from_toml(&format!("[secrets]\nmaster_keys = [{keys}]\n"));
    let good = read("{ generation = 1, file = \"a.key\" }, { generation = 2, env = \"KEY\" }");
    assert_eq!(good.unwrap().secrets.master_keys[1].env.as_deref(), Some("KEY"));
    for (bad, why) in [
        ("{ file = \"a\" }", "needs a generation"),
        ("{ generation = 1 }", "needs one of file and env"),
        ("{ generation = 1, file = \"a\", env = \"A\" }", "needs one of file and env"),
        ("{ generation = 1, text = \"AAAA\" }", "unknown field `text`"),
        ("{ generation = 1, env = \"A\" }, { generation = 1, env = \"B\" }", "stands above"),
    ] {
        let error = read(bad).unwrap_err().to_string();
        assert!(error.contains(why), "{bad}: {error}");
    }
    let given = SecretSettings::given([(1, [7; 32])]);
    assert!(!format!("{given:?}").contains("BwcH"));
}

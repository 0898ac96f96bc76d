//! Claims about an agent's settings: what is taken for granted, and what is refused with its place.

use super::*;

const LEAST: &str = "data_dir = \"/d\"\ndocuments = [\"web/prod\"]\n";

fn error(more: &str) -> String {
    AgentSettings::from_toml(&format!("{LEAST}{more}")).unwrap_err().to_string()
}

#[test]
fn defaults_are_private() {
    let text = format!("{LEAST}[[templates]]\nsource = \"a\"\ntarget = \"b\"\n");
    let settings = AgentSettings::from_toml(&text).unwrap();
    assert_eq!((settings.listen.socket_mode, settings.templates[0].mode), (0o600, 0o600));
    assert_eq!(settings.secrets.serve, SecretsFor::Socket);
    let document = settings.document_of(&settings.templates[0]).unwrap();
    assert_eq!(document.to_string(), "web/prod");
}

#[test]
fn what_is_unknown_or_of_another_kind_is_refused_with_its_line() {
    for (more, part) in [
        ("[listen]\nport = 1\n", "port"),
        ("[times]\ndebounce = 3\n", "line 4"),
        ("[times]\ndebounce = \"3\"\n", "such as 250ms"),
        ("[listen]\nsocket_mode = \"999\"\n", "line 4"),
        ("[listen]\nsocket_mode = \"7777\"\n", "no mode"),
        ("[secrets]\nnames = [\"a/b\"]\n", "line 4"),
    ] {
        assert!(error(more).contains(part), "{more}: {}", error(more));
    }
    let error = AgentSettings::from_toml("data_dir = \"/d\"\ndocuments = [\"web\"]\n");
    assert!(error.unwrap_err().to_string().contains("line 2"));
}

#[test]
fn values_that_cannot_be_meant_are_refused_by_their_field() {
    let template = "[[templates]]\nsource = \"a\"\ntarget = \"b\"\n";
    for (more, field) in [
        ("[listen]\naddress = \"0.0.0.0:80\"\n".to_owned(), "listen.address"),
        ("[times]\ndebounce = \"5s\"\n".to_owned(), "times.debounce"),
        ("[secrets]\nrefresh = \"10ms\"\n".to_owned(), "secrets.refresh"),
        ("[secrets]\nrefresh = \"2m\"\nmax_age = \"1m\"\n".to_owned(), "secrets.max_age"),
        ("[limits]\noutput_bytes_max = 0\n".to_owned(), "limits.output_bytes_max"),
        (format!("{template}{template}"), "templates[1].target"),
        (format!("{template}document = \"web/dev\"\n"), "templates[0].document"),
        (format!("{template}reload_timeout = \"2h\"\n"), "templates[0].reload_timeout"),
        (
            format!("{template}reload = [\"x\"]\nreload_shell = \"y\"\n"),
            "templates[0].reload_shell",
        ),
    ] {
        assert!(error(&more).starts_with(field), "{more}: {}", error(&more));
    }
    let nothing = AgentSettings::from_toml("data_dir = \"/d\"\n").unwrap_err();
    assert!(nothing.to_string().starts_with("documents: "), "{nothing}");
}

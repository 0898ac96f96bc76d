//! Numbers as people read them. Pure.

/// Foreign text: control characters become visible, so that it can neither steer a terminal nor break
/// a line.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// At most `most` characters of it.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    kept + "…"
}

/// `1 key`, `2 keys`.
pub(crate) fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {one}s", number(n)) }
}

/// `12,345`.
pub(crate) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// How long: `0.4 ms`, `350 ms`, `12.3 s`, `2 min 05 s`.
pub(crate) fn duration(us: u64) -> String {
    match us {
        0 => "0 s".into(),
        1..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", us / 1000),
        1_000_000..120_000_000 => format!("{:.1} s", us as f64 / 1e6),
        120_000_000..7_200_000_000 => {
            format!("{} min {:02} s", us / 60_000_000, us % 60_000_000 / 1_000_000)
        }
        _ => format!("{:.1} h", us as f64 / 3.6e9),
    }
}

/// When, in the run's time: seconds with three decimals.
pub(crate) fn moment(us: u64) -> String {
    format!("{}.{:03} s", us / 1_000_000, us % 1_000_000 / 1000)
}

/// `512 B`, `12.3 KB`, `4.5 MB`.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1000 => format!("{n} B"),
        1000..1_000_000 => format!("{:.1} KB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

/// A share: `100 %` only for all, `0 %` only for none.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".into();
    }
    if part == 0 || part >= whole {
        return if part == 0 { "0 %".into() } else { "100 %".into() };
    }
    let share = part as f64 / whole as f64 * 100.0;
    if share >= 99.0 {
        format!("{:.1} %", (share * 10.0).floor().min(999.0) / 10.0)
    } else {
        format!("{} %", (share.round() as u64).max(1))
    }
}

/// Names in a list: `a, b and c`.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        None => "none".into(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_whole_only_if_it_is() {
        assert_eq!(percent(9_999, 10_000), "99.9 %");
        assert_eq!(percent(999_999_999, 1_000_000_000), "99.9 %");
        assert_eq!(percent(1, 10_000), "1 %");
        assert_eq!((percent(0, 3), percent(3, 3), percent(0, 0)).1, "100 %");
    }

    #[test]
    fn durations_are_read_at_a_glance() {
        for (us, wanted) in [
            (0, "0 s"),
            (420, "0.4 ms"),
            (350_000, "350 ms"),
            (12_340_000, "12.3 s"),
            (125_000_000, "2 min 05 s"),
            (7_200_000_000, "2.0 h"),
        ] {
            assert_eq!(duration(us), wanted);
        }
        assert_eq!(moment(61_002_999), "61.002 s");
    }

    #[test]
    fn lists_and_numbers_read_as_english() {
        assert_eq!(listed(["a", "b", "c"]), "a, b and c");
        assert_eq!((number(0), number(1_234_567)), ("0".into(), "1,234,567".into()));
        assert_eq!((count(1, "key"), count(1200, "key")), ("1 key".into(), "1,200 keys".into()));
    }

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
    }
}

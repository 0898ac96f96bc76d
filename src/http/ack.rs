//! `Holm-Ack: majority; timeout=2s`: how many regions must have a write on disk before it is
//! answered. Where they don't in time, the answer is 202 with who has it; nothing is undone.

use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use schemars::JsonSchema;

use super::HOLM_ACK;
use super::error::ApiError;
use super::session::{bad, length, one};
use crate::model::Dot;
use crate::node::{Ack, Node, RegionReceipt};
use crate::settings::HttpSettings;

const HEADER: &str = "Holm-Ack";

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    ack: Ack,
    timeout: Duration,
}

/// A write's answer with who has it, where others were waited for: for the description of the API.
#[derive(JsonSchema)]
#[schemars(rename = "Written{T}")]
#[expect(dead_code, reason = "a description, and never made")]
pub(super) struct Written<T> {
    /// Where regions were waited for (`Holm-Ack`): which have the write.
    #[schemars(skip_serializing_if = "Option::is_none")]
    receipts: Option<Vec<RegionReceipt>>,
    #[schemars(flatten)]
    written: T,
}

/// Who has a write that had to be waited for.
pub(super) struct Answer {
    /// Whether as many regions as were asked for have it.
    pub(super) reached: bool,
    regions: Vec<RegionReceipt>,
}

impl Asked {
    /// Reads the header; without it, the region that takes a write is enough.
    pub(super) fn read(
        headers: &HeaderMap,
        settings: &HttpSettings,
        regions: usize,
    ) -> Result<Self, ApiError> {
        let text = one(headers, &HOLM_ACK, HEADER)?;
        parse(text.unwrap_or("local"), settings, regions).map_err(|e| bad(HEADER, &e))
    }

    /// Waits for the regions; `None` where nobody else was asked for.
    pub(super) async fn wait(self, node: &Node, dot: Option<Dot>) -> Option<Answer> {
        if self.ack == Ack::Local {
            return None;
        }
        // Nothing was written, so that nobody lacks it.
        let Some(dot) = dot else { return Some(Answer { reached: true, regions: vec![] }) };
        let receipts = node.wait_for_receipts(dot, self.ack, self.timeout).await;
        Some(Answer { reached: receipts.reached, regions: receipts.regions })
    }
}

impl Answer {
    /// The answer's body with the member `receipts` before all others. `body` is an object.
    pub(super) fn into_body(self, body: &[u8]) -> Bytes {
        let receipts = serde_json::to_string(&self.regions).unwrap_or_else(|_| "[]".to_owned());
        let rest = body.strip_prefix(b"{").unwrap_or(body);
        let comma = if rest.starts_with(b"}") { "" } else { "," };
        let start = format!("{{\"receipts\":{receipts}{comma}");
        [start.as_bytes(), rest].concat().into()
    }
}

fn parse(text: &str, settings: &HttpSettings, regions: usize) -> Result<Asked, String> {
    let mut parts = text.split(';').map(str::trim);
    let ack = match parts.next().unwrap_or_default() {
        "local" => Ack::Local,
        "majority" => Ack::Majority,
        "all" => Ack::All,
        number => {
            let digits = !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
            let count = number.parse().ok().filter(|count| digits && *count > 0);
            match count {
                Some(count) if count <= regions => Ack::Regions(count),
                Some(count) => {
                    return Err(format!("asks for {count} regions; there are {regions}"));
                }
                None => return Err("has to be local, majority, all or a number".to_owned()),
            }
        }
    };
    let mut timeout = None;
    for part in parts {
        match part.split_once('=') {
            Some((name, value)) if name.trim() == "timeout" && timeout.is_none() => {
                timeout = Some(length(value.trim().trim_matches('"'), settings.ack_timeout_max)?);
            }
            _ => return Err("takes timeout alone, once, behind the `;`".to_owned()),
        }
    }
    Ok(Asked { ack, timeout: timeout.unwrap_or(settings.ack_timeout_default) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_header_reads_as_documented() {
        let settings = HttpSettings::default();
        for (text, ack, seconds) in [
            ("local", Ack::Local, 2),
            ("majority; timeout=5s", Ack::Majority, 5),
            ("all;timeout=\"30s\"", Ack::All, 30),
            ("2", Ack::Regions(2), 2),
            ("3 ; timeout = 0s", Ack::Regions(3), 0),
        ] {
            let asked = Asked { ack, timeout: Duration::from_secs(seconds) };
            assert_eq!(parse(text, &settings, 3), Ok(asked), "{text}");
        }
        for bad in [
            "",
            "0",
            "4",
            "-1",
            "+2",
            "everyone",
            "2; timeout",
            "2; timeout=31s",
            "2; timeout=1s; timeout=1s",
            "2; when=now",
            "2;",
            "99999999999999999999999",
        ] {
            assert!(parse(bad, &settings, 3).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn receipts_come_before_the_other_members() {
        let answer = || Answer { reached: false, regions: vec![] };
        assert_eq!(&answer().into_body(b"{\"a\":1}")[..], b"{\"receipts\":[],\"a\":1}");
        assert_eq!(&answer().into_body(b"{}")[..], b"{\"receipts\":[]}");
    }

    proptest! {
        #[test]
        fn no_text_panics_the_parser(text in "[ -~é]{0,40}") {
            let _ = parse(&text, &HttpSettings::default(), 3);
        }
    }
}

//! From when until when a certificate is valid: the two times in its DER (RFC 5280, 4.1.2.5), and no
//! more of it. Whether it is good is for others to say.

/// Seconds since the Unix epoch: not before, not after. `None` where it is no certificate.
pub(super) fn of(der: &[u8]) -> Option<(i64, i64)> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = part(der)?;
    let (_, tbs, _) = part(certificate)?;
    // Version, where there is one; serial, algorithm, issuer; validity.
    let (tag, _, rest) = part(tbs)?;
    let mut rest = if tag == VERSION { part(rest)?.2 } else { rest };
    for _ in 0..2 {
        rest = part(rest)?.2;
    }
    let (tag, validity, _) = part(rest)?;
    if tag != SEQUENCE {
        return None;
    }
    let (from_tag, from, rest) = part(validity)?;
    let (to_tag, to, _) = part(rest)?;
    Some((time(from_tag, from)?, time(to_tag, to)?))
}

/// The first element's tag and content, and what is behind it.
fn part(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = der.split_first_chunk::<2>()?;
    let mut len = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (bytes, behind) = rest.split_at_checked(count)?;
        len = bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        rest = behind;
    }
    let (content, behind) = rest.split_at_checked(len)?;
    Some((tag, content, behind))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let year_len = match tag {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    };
    let (year, rest) = text.split_at_checked(year_len)?;
    let mut year: i16 = year.parse().ok()?;
    if year_len == 2 {
        year += if year < 50 { 2000 } else { 1900 };
    }
    let two = |at: usize| rest.get(at..at + 2).and_then(|text| text.parse::<i8>().ok());
    if rest.len() != 10 {
        return None;
    }
    let date = jiff::civil::DateTime::new(year, two(0)?, two(2)?, two(4)?, two(6)?, two(8)?, 0);
    Some(date.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{Entropy, ManualClock};
    use crate::model::{NodeName, Stamp};
    use crate::transport::Authority;
    use crate::transport::pki::NODE_VALID;

    #[test]
    fn a_certificate_is_valid_from_when_to_when_it_was_made_for() {
        // Before and after 2050, which are written in two ways.
        for now_s in [1_700_000_000_u64, 2_600_000_000] {
            let (entropy, clock) = (Entropy::system(), ManualClock::new(Stamp(now_s * 1_000_000)));
            let authority = Authority::create(&entropy, &clock).unwrap();
            let name = NodeName::new("a-1").unwrap();
            let issued = authority.issue(&name, &entropy, &clock).unwrap();
            let (from, to) = of(&issued.chain[0]).unwrap();
            let now = i64::try_from(now_s).unwrap();
            assert_eq!(from, now - 3_600);
            assert_eq!(to, now + i64::try_from(NODE_VALID.as_secs()).unwrap());
            for len in 0..issued.chain[0].len() {
                assert_eq!(of(&issued.chain[0][..len]), None, "{len}");
            }
        }
        assert_eq!(of(b"something else"), None);
    }
}

//! Server-sent events out of bytes (WHATWG HTML, section 9.2). Pure. Lines end in LF or CR LF; a CR
//! alone, which no server of ours sends, ends none.

/// Longest line, and longest event, in bytes.
const LEN_MAX: usize = 16 * 1024 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Its kind; empty where it is not named.
    pub(crate) event: String,
    /// Its data, lines joined by LF.
    pub(crate) data: String,
    /// The id it sets, if it does.
    pub(crate) id: Option<String>,
}

/// A line or an event was longer than is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {LEN_MAX} bytes")]
pub(crate) struct TooLong;

/// Collects bytes until they are events.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    frame: Frame,
    has_data: bool,
}

impl Parser {
    /// Takes bytes and gives the events that end in them.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, TooLong> {
        let mut frames = Vec::new();
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            if self.line.len() + part.len() > LEN_MAX {
                return Err(TooLong);
            }
            self.line.extend_from_slice(part);
            if self.line.last() == Some(&b'\n') {
                let line = std::mem::take(&mut self.line);
                let line = String::from_utf8_lossy(&line);
                let line = line.strip_suffix('\n').unwrap_or(&line);
                self.line_ends(line.strip_suffix('\r').unwrap_or(line), &mut frames)?;
            }
        }
        Ok(frames)
    }

    fn line_ends(&mut self, line: &str, frames: &mut Vec<Frame>) -> Result<(), TooLong> {
        if line.is_empty() {
            let mut frame = std::mem::take(&mut self.frame);
            if std::mem::take(&mut self.has_data) {
                frame.data.pop();
                frames.push(frame);
            }
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.frame.event),
            "id" if !value.contains('\0') => self.frame.id = Some(value.to_owned()),
            "data" => {
                if self.frame.data.len() + value.len() > LEN_MAX {
                    return Err(TooLong);
                }
                self.has_data = true;
                self.frame.data.push_str(value);
                self.frame.data.push('\n');
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = ": heartbeat\n\nevent: put\nid: s1\ndata: {\"a\":\r\ndata:1}\n\ndata\n\nevent: none\n\nretry: 5\nevent: ready\ndata: {}\n\ndata: cut";

    fn frame(event: &str, data: &str, id: Option<&str>) -> Frame {
        Frame { event: event.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) }
    }

    #[test]
    fn events_are_what_the_standard_says() {
        assert_eq!(
            Parser::default().push(STREAM.as_bytes()),
            Ok(vec![
                frame("put", "{\"a\":\n1}", Some("s1")),
                frame("", "", None),
                frame("ready", "{}", None)
            ])
        );
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut parser = Parser::default();
        let mib = vec![b'x'; 1024 * 1024];
        assert!((0..16).all(|_| parser.push(&mib).is_ok()));
        assert_eq!(parser.push(&mib), Err(TooLong));
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_how_the_bytes_arrive(cuts in proptest::collection::vec(0..STREAM.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let (mut parser, mut frames, mut from) = (Parser::default(), Vec::new(), 0);
            for to in cuts.into_iter().chain([STREAM.len()]) {
                frames.extend(parser.push(&STREAM.as_bytes()[from..to]).unwrap());
                from = to;
            }
            prop_assert_eq!(Ok(frames), Parser::default().push(STREAM.as_bytes()));
        }

        #[test]
        fn no_bytes_panic_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Parser::default().push(&bytes);
        }
    }
}

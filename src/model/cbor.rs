//! CBOR (RFC 8949), the one encoding of everything that is stored or sent: maps with small integer
//! keys, so that fields can be added and unknown ones are passed over.

use minicbor::encode::Write;
use minicbor::{Decoder, Encoder};

/// The encoding of `value`.
pub fn encode<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("encoding into memory has no way to fail")
}

/// Puts the encoding of `value` behind what `bytes` hold.
pub fn encode_into<T: minicbor::Encode<()>>(value: &T, bytes: &mut Vec<u8>) {
    minicbor::encode(value, bytes).expect("encoding into memory has no way to fail");
}

/// Reads `T` from exactly these bytes; anything behind it is an error.
pub fn decode<'b, T: minicbor::Decode<'b, ()>>(
    bytes: &'b [u8],
) -> Result<T, minicbor::decode::Error> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode()?;
    if decoder.position() < bytes.len() {
        return Err(minicbor::decode::Error::message("bytes behind the value"));
    }
    Ok(value)
}

/// Writes a list, each of its items by `one`.
pub(crate) fn write_list<W: Write, T>(
    e: &mut Encoder<W>,
    items: impl ExactSizeIterator<Item = T>,
    mut one: impl FnMut(&mut Encoder<W>, T) -> Result<(), minicbor::encode::Error<W::Error>>,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    e.array(items.len() as u64)?;
    for item in items {
        one(e, item)?;
    }
    Ok(())
}

/// Reads a list of at most `max` items, each by `one`. A longer one, or one that does not say how long it
/// is, is refused before anything is allocated.
pub(crate) fn read_list<'b, T>(
    d: &mut Decoder<'b>,
    max: usize,
    mut one: impl FnMut(&mut Decoder<'b>) -> Result<T, minicbor::decode::Error>,
) -> Result<Vec<T>, minicbor::decode::Error> {
    let len = d.array()?.and_then(|len| usize::try_from(len).ok()).filter(|len| *len <= max);
    let len = len.ok_or_else(|| minicbor::decode::Error::message("too many"))?;
    (0..len).map(|_| one(d)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back_as_written_and_one_that_is_too_long_or_says_no_length_is_refused() {
        let mut bytes = Vec::new();
        let items = [7_u8, 8, 9];
        write_list(&mut Encoder::new(&mut bytes), items.iter(), |e, item| e.u8(*item)?.ok())
            .unwrap();
        assert_eq!(bytes, encode(&items));
        let read = |bytes: &[u8], max| read_list(&mut Decoder::new(bytes), max, Decoder::u8);
        assert_eq!(read(&bytes, 3).unwrap(), items);
        assert!(read(&bytes, 2).is_err(), "too long");
        assert!(read(&bytes[..3], 3).is_err(), "cut off");
        assert!(read(&[0x9f, 7, 0xff], 3).is_err(), "it says no length");
        let countless = [&[0x9b][..], &u64::MAX.to_be_bytes()].concat();
        assert!(read(&countless, usize::MAX - 1).is_err());
    }
}

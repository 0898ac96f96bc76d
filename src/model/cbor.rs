//! CBOR (RFC 8949), the one encoding of everything that is stored or sent: maps with small integer
//! keys, so that fields can be added and unknown ones are passed over.

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

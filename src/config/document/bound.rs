//! How much work a change's bytes would make, told before Automerge sees them: it unpacks whatever
//! it is given, and a few bytes of run lengths can stand for any number of operations. Reads
//! sizes alone, in one pass; whether the change is a good one is not told here.
//!
//! The format: <https://automerge.org/automerge-binary-format-spec/>, sections "chunk", "change"
//! and "columns".

/// The chunks that nodes write: one change, not compressed.
const CHANGE_CHUNK: u8 = 1;
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const CHECKSUM_LEN: usize = 4;
const HASH_LEN: usize = 32;
/// The columns whose run lengths say how often Automerge's decoder goes round: one operation for
/// each action, and one more round for each write that an operation replaces. All others are read
/// only as far as these go.
const ACTIONS: u32 = 4 << 4 | INTEGER;
const REPLACED_ACTORS: u32 = 7 << 4 | ACTOR;
const ACTOR: u32 = 1;
const INTEGER: u32 = 2;
const STRING: u32 = 5;
const TYPE_BITS: u32 = 0b0111;
const DEFLATED_BIT: u32 = 0b1000;
/// An operation sets an entry, which takes more bytes than these: its dot alone does, nearly.
const ENTRY_LEN_MIN: usize = 16;

/// How many operations the change holds; or why it may not be unpacked.
pub(super) fn operations(chunk: &[u8]) -> Result<usize, &'static str> {
    if chunk.get(MAGIC.len() + CHECKSUM_LEN).is_some_and(|kind| *kind != CHANGE_CHUNK) {
        return Err("not a plain change chunk");
    }
    let columns = columns(chunk).ok_or("cut off, or not a chunk")?;
    let mut operations = 0;
    let mut last_spec = None;
    for (spec, data) in columns {
        if spec & DEFLATED_BIT != 0 {
            return Err("a column is compressed");
        }
        // Of two columns of one kind, Automerge would take one.
        if last_spec.replace(spec) >= Some(spec) {
            return Err("columns are out of order");
        }
        match spec {
            ACTIONS => {
                let most = chunk.len() / ENTRY_LEN_MIN;
                operations =
                    rounds(data, most, false).ok_or("more operations than bytes for them")?;
            }
            REPLACED_ACTORS => {
                // A key's writes that stand side by side have different actors, so that each
                // takes a byte or an operation.
                rounds(data, chunk.len(), false)
                    .ok_or("more writes replaced than bytes for them")?;
            }
            spec if spec & TYPE_BITS == STRING => {
                rounds(data, usize::MAX, true).ok_or("a text is longer than its column")?;
            }
            _ => {}
        }
    }
    Ok(operations)
}

/// The columns of a change chunk that ends where the bytes do.
fn columns(chunk: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    let mut rest = chunk.strip_prefix(&MAGIC)?;
    skip(&mut rest, CHECKSUM_LEN + 1)?;
    let len = length(&mut rest)?;
    if rest.len() != len {
        return None;
    }
    let dependencies = length(&mut rest)?;
    skip(&mut rest, dependencies.checked_mul(HASH_LEN)?)?;
    skip_prefixed(&mut rest)?; // the actor
    unsigned(&mut rest)?; // its sequence number
    unsigned(&mut rest)?; // the first operation's number
    signed(&mut rest)?; // the time
    skip_prefixed(&mut rest)?; // the message
    for _ in 0..unsigned(&mut rest)? {
        skip_prefixed(&mut rest)?; // another actor
    }
    let mut specs = Vec::new();
    for _ in 0..unsigned(&mut rest)? {
        specs.push((u32::try_from(unsigned(&mut rest)?).ok()?, length(&mut rest)?));
    }
    specs.into_iter().map(|(spec, len)| Some((spec, skip(&mut rest, len)?))).collect()
}

/// The sum of a column's run lengths, if it is at most `most` and the column can be read.
fn rounds(mut column: &[u8], most: usize, is_text: bool) -> Option<usize> {
    let value = |column: &mut &[u8]| -> Option<()> {
        if is_text { skip_prefixed(column) } else { unsigned(column).map(drop) }
    };
    let mut sum = 0_usize;
    while !column.is_empty() {
        let run = signed(&mut column)?;
        let len = match run {
            0 => unsigned(&mut column)?,
            _ => run.unsigned_abs(),
        };
        sum = sum.checked_add(usize::try_from(len).ok()?).filter(|sum| *sum <= most)?;
        let values = match run {
            0 => 0,
            1.. => 1,
            _ => len,
        };
        for _ in 0..values {
            value(&mut column)?;
        }
    }
    Some(sum)
}

fn skip<'b>(rest: &mut &'b [u8], len: usize) -> Option<&'b [u8]> {
    let (skipped, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(skipped)
}

fn skip_prefixed(rest: &mut &[u8]) -> Option<()> {
    let len = length(rest)?;
    skip(rest, len).map(drop)
}

fn length(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(unsigned(rest)?).ok()
}

/// An unsigned LEB128 number of at most 64 bits.
fn unsigned(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = skip(rest, 1)?[0];
        if shift == 63 && byte > 1 {
            return None;
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// A signed LEB128 number of at most 64 bits.
fn signed(rest: &mut &[u8]) -> Option<i64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = skip(rest, 1)?[0];
        if shift == 63 && byte != 0 && byte != 0x7f {
            return None;
        }
        number |= i64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let extends = byte & 0x40 != 0 && shift + 7 < 64;
            return Some(if extends { number | (-1 << (shift + 7)) } else { number });
        }
    }
    None
}

#[cfg(test)]
mod tests;

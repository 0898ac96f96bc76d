//! Claims about the format. `tests/golden/backup-format-1.txt` is never changed; a new format gets a
//! new file.

use proptest::prelude::*;

use super::*;
use crate::model::{Dot, Origin};

const GOLDEN: &str = include_str!("../../../tests/golden/backup-format-1.txt");

fn table(store: &str, table: &str, rows: u64) -> TableInfo {
    let (key_type, value_type) = ("u64".to_owned(), "&[u8]".to_owned());
    TableInfo { store: store.to_owned(), table: table.to_owned(), key_type, value_type, rows }
}

fn chunks() -> Vec<Chunk> {
    let manifest = Manifest {
        format: 1,
        program: "0.1.0".to_owned(),
        cluster: "test".to_owned(),
        node: "a-1".to_owned(),
        at: Stamp(1_700_000_000_000_000),
        config_format: 1,
        quorum_format: 1,
        vector: [Dot { origin: Origin([7; 8]), n: 3 }].into_iter().collect(),
        quorum_applied: 9,
        quorum_last_log: 10,
        generations: vec![KeyGeneration { number: 1, check: [5; 32] }],
        audit: [Head { seq: 2, hash: [1; 32] }, Head::default()],
        tables: vec![
            table("config", "log", 2),
            table("quorum", "state", 1),
            table("quorum", "log", 0),
        ],
    };
    let row = |key: u8| Row { key: vec![key; 8], value: vec![key, 0xff] };
    let rows = |store: &str, table: &str, rows| Chunk {
        rows: Some(Rows { store: store.to_owned(), table: table.to_owned(), rows }),
        ..Chunk::default()
    };
    vec![
        Chunk { manifest: Some(manifest), ..Chunk::default() },
        rows("config", "log", vec![row(1)]),
        rows("config", "log", vec![row(2)]),
        rows("quorum", "state", vec![row(3)]),
        Chunk { end: Some(End { rows: 3 }), ..Chunk::default() },
    ]
}

fn written(chunks: &[Chunk]) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::default();
    chunks.iter().map(|chunk| encoder.chunk(chunk)).collect()
}

/// What comes of these bytes, in pieces of this length.
fn read(bytes: &[u8], piece: usize) -> Result<Vec<Chunk>, FormatError> {
    let mut decoder = Decoder::default();
    let mut chunks = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.feed(piece);
        while let Some(chunk) = decoder.next_chunk()? {
            chunks.push(chunk);
        }
    }
    decoder.finish().map(|_| chunks)
}

#[test]
fn the_format_is_what_it_was() {
    let hex: Vec<String> = written(&chunks())
        .iter()
        .map(|chunk| chunk.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    let text = hex.join("\n") + "\n";
    assert_eq!(text, GOLDEN, "{text}");
}

#[test]
fn a_manifest_that_says_impossible_numbers_is_counted_all_the_same() {
    let Some(Chunk { manifest: Some(mut manifest), .. }) = chunks().into_iter().next() else {
        panic!("it begins with a manifest")
    };
    manifest.tables = vec![table("config", "log", u64::MAX), table("config", "rows", 2)];
    assert_eq!(manifest.rows(), u64::MAX);
}

#[test]
fn what_is_written_is_read_in_whatever_pieces_it_comes() {
    let bytes = written(&chunks()).concat();
    for piece in [1, 2, 7, 64, bytes.len()] {
        assert_eq!(read(&bytes, piece).unwrap(), chunks(), "{piece}");
    }
}

#[test]
fn a_backup_that_is_cut_off_is_refused_wherever_it_is_cut() {
    let bytes = written(&chunks()).concat();
    for len in 0..bytes.len() {
        let error = read(&bytes[..len], 50).unwrap_err();
        let cut = matches!(error, FormatError::Cut { at, .. } if at == len as u64);
        assert!(cut || (len < 8 && error == FormatError::NotABackup), "{len}: {error}");
    }
    let error = read(&bytes[..bytes.len() - 60], 50).unwrap_err().to_string();
    assert!(error.contains("of 3 rows are there"), "{error}");
}

#[test]
fn every_flipped_bit_is_found_and_named_by_its_chunk() {
    let written = written(&chunks());
    let bytes = written.concat();
    let mut starts = vec![8];
    starts.extend(written.iter().scan(0, |at, chunk| {
        *at += chunk.len() as u64;
        Some(*at)
    }));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            match read(&bytes, 4_096).unwrap_err() {
                FormatError::NotABackup => assert!(at < 8),
                // A length that became greater.
                FormatError::Cut { .. } => {}
                FormatError::Damaged { chunk, at: start, .. } => {
                    let chunk = usize::try_from(chunk).unwrap();
                    assert_eq!(starts[chunk], start);
                    assert!(start <= at as u64 && (at as u64) < starts[chunk + 1], "{at}");
                }
                other @ FormatError::Later(_) => panic!("{at}: {other}"),
            }
        }
    }
}

#[test]
fn a_chunk_that_is_left_out_put_twice_or_behind_the_end_is_found() {
    let written = written(&chunks());
    for without in 0..written.len() {
        let mut other = written.clone();
        other.remove(without);
        assert!(read(&other.concat(), 64).is_err(), "without {without}");
    }
    for twice in 0..written.len() {
        let mut other = written.clone();
        other.insert(twice, written[twice].clone());
        assert!(read(&other.concat(), 64).is_err(), "{twice} twice");
    }
    assert!(read(&[written.concat(), b"x".to_vec()].concat(), 64).is_err());
}

#[test]
fn good_sums_over_something_else_than_the_manifest_says_are_refused() {
    let mut fewer = chunks();
    fewer.remove(2);
    let mut miscounted = chunks();
    miscounted[4].end = Some(End { rows: 4 });
    let mut unknown = chunks();
    unknown[3].rows.as_mut().unwrap().table = "other".to_owned();
    let mut late = chunks();
    late.remove(0);
    let mut twice = chunks();
    twice.insert(1, twice[0].clone());
    for wrong in [fewer, miscounted, unknown, late, twice] {
        let error = read(&written(&wrong).concat(), 64).unwrap_err();
        assert!(matches!(error, FormatError::Damaged { .. }), "{error}");
    }
    let mut later = chunks();
    later[0].manifest.as_mut().unwrap().format = 2;
    assert_eq!(read(&written(&later).concat(), 64), Err(FormatError::Later(2)));
}

#[test]
fn what_a_later_program_added_is_passed_over() {
    let mut sum = Sum::default();
    let mut bytes = MAGIC.to_vec();
    let mut put = |body: Vec<u8>| {
        sum = sum_of(&sum, &body);
        bytes.extend((body.len() as u32).to_be_bytes());
        bytes.extend(&body);
        bytes.extend(sum);
    };
    for (at, chunk) in chunks().iter().enumerate() {
        let mut body = cbor::encode(chunk);
        if at == 1 {
            // A field more in this chunk's map, and a chunk of which nothing is known before it.
            assert_eq!(body[0] & 0xe0, 0xa0);
            put(vec![0xa1, 0x18, 0x40, 0x01]);
            body[0] += 1;
            body.extend([0x18, 0x63, 0x61, b'x']);
        }
        put(body);
    }
    let read = read(&bytes, 64).unwrap();
    assert_eq!(read.len(), chunks().len() + 1);
    assert_eq!(read[2], chunks()[1]);
}

proptest! {
    #[test]
    fn no_bytes_panic_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1_usize..50) {
        let _ = read(&bytes, piece);
        let _ = read(&[&MAGIC[..], &bytes].concat(), piece);
    }
}

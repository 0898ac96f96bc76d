//! The pieces of a cut on their way: bounded, and none but what was sent.

use super::*;

#[test]
fn a_document_with_a_long_history_is_sent_in_pieces_and_never_held_as_a_whole() {
    let mut a = open(&MemoryDisk::new());
    let big = format!("\"{}\"", "x".repeat(900));
    let keys: Vec<String> = (0..20).map(|i| format!("k{i}")).collect();
    let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (&**key, &*big)).collect();
    for i in 0..500_u64 {
        a.commit(Stamp(i), &[put("web/dev", &pairs)]);
    }
    a.checkpoint().unwrap();
    let mut cut = Pieces::new(&a.cuts(), &Vector::new(), Stamp(1_000));
    let (mut bytes, mut pieces) = (0, Vec::new());
    while let Some(piece) = cut.next() {
        assert!(piece.len() <= 300_000, "a piece of {} bytes", piece.len());
        assert!(cut.cut.held_bytes() <= 2 * 256 * 1024, "{}", cut.cut.held_bytes());
        bytes += piece.len();
        pieces.push(piece);
    }
    assert!(bytes > 10_000_000, "{bytes}");
    let disk = MemoryDisk::new();
    let mut b = open(&disk);
    assert_eq!(b.take(&staged(&pieces, &disk)).unwrap().versions, 9_980);
    assert_eq!((view(&b), histories(&b)), (view(&a), histories(&a)));
}

#[test]
fn a_sender_that_is_at_work_may_say_so_between_any_two_pieces() {
    let a = busy(&MemoryDisk::new(), 30);
    let mut pieces = Vec::new();
    let mut said = Said::default();
    let ended = self::pieces(&a.cuts(), &Vector::new());
    for piece in &ended[..ended.len() - 1] {
        said.note(piece);
        pieces.push(piece.clone());
        let alive = alive(pieces.len() as u64);
        said.note(&alive);
        pieces.push(alive);
    }
    pieces.push(said.end());
    let disk = MemoryDisk::new();
    let mut b = open(&disk);
    b.take(&staged(&pieces, &disk)).unwrap();
    assert_eq!((view(&b), histories(&b)), (view(&a), histories(&a)));
}

#[test]
fn what_would_be_too_much_or_leave_no_room_is_not_put_aside() {
    struct Small(MemoryDisk);
    impl Disk for Small {
        fn database(&self, name: &str) -> std::io::Result<Box<dyn redb::StorageBackend>> {
            self.0.database(name)
        }
        fn read(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
            self.0.read(name)
        }
        fn write(&self, name: &str, bytes: &[u8], durable: bool) -> std::io::Result<()> {
            self.0.write(name, bytes, durable)
        }
        fn remove(&self, name: &str) -> std::io::Result<()> {
            self.0.remove(name)
        }
        fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
            self.0.rename(from, to)
        }
        fn identity(&self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
            self.0.identity(name)
        }
        fn len(&self, name: &str) -> std::io::Result<Option<u64>> {
            self.0.len(name)
        }
        fn room(&self) -> std::io::Result<Option<(u64, u64)>> {
            // Of 70 MiB, what the file leaves.
            let used = self.0.len("staged.redb")?.unwrap_or_default();
            Ok(Some(((70_u64 << 20).saturating_sub(used), 70 << 20)))
        }
        fn machine_boot(&self) -> Option<Vec<u8>> {
            None
        }
    }
    let a = busy(&MemoryDisk::new(), 30);
    let pieces = pieces(&a.cuts(), &Vector::new());
    let bytes: usize = pieces.iter().map(Vec::len).sum();
    let push = |bytes_max: usize| {
        let disk = Arc::new(MemoryDisk::new());
        let mut staging = Staging::begin(disk, bytes_max as u64).unwrap();
        pieces.iter().try_fold(false, |_, piece| staging.push([&**piece]))
    };
    assert_eq!(push(bytes), Ok(true));
    assert_eq!(push(bytes - 1), Err(StagingError::TooMuch(bytes as u64 - 1)));
    let disk = Arc::new(Small(MemoryDisk::new()));
    let mut staging = Staging::begin(disk.clone(), u64::MAX).unwrap();
    staging.push([&*pieces[0]]).unwrap();
    let alive = vec![alive(1); 1_000];
    let mut pushed = Ok(false);
    for _ in 0..1_000 {
        // Much of nothing.
        pushed = staging.push(alive.iter().map(Vec::as_slice));
        if pushed.is_err() {
            break;
        }
    }
    assert!(matches!(pushed, Err(StagingError::NoRoom { .. })), "{pushed:?}");
    drop(staging);
    assert_eq!(disk.len("staged.redb").unwrap(), None);
}

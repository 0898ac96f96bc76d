//! The file's format: what this program writes today, every later one reads.

use redb::{ReadableDatabase as _, ReadableTable as _};

use super::*;
use crate::storage::database::Database;
use crate::storage::meta::META;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Everything in the file, row by row.
fn dump(disk: &MemoryDisk) -> String {
    let database = Database::open_intact(Arc::new(disk.clone()), &tables::LAYOUT).unwrap();
    let tx = database.get().unwrap().begin_read().unwrap();
    let mut text = String::new();
    for row in tx.open_table(META).unwrap().iter().unwrap() {
        let (key, value) = row.unwrap();
        text += &format!("meta {} {}\n", key.value(), hex(value.value()));
    }
    for (name, table) in [("log", tables::LOG), ("audit", tables::AUDIT)] {
        for row in tx.open_table(table).unwrap().iter().unwrap() {
            let (key, value) = row.unwrap();
            text += &format!("{name} {} {}\n", key.value(), hex(value.value()));
        }
    }
    let mark = disk.read(tables::MARK).unwrap().unwrap();
    text + &format!("{} {}\n", tables::MARK, hex(&mark))
}

#[tokio::test(start_paused = true)]
async fn the_file_is_as_it_was_first_written() {
    let disk = MemoryDisk::new();
    let entropy = Entropy::seeded(7).stream("raft-id");
    let opened = open(Arc::new(disk.clone()), entropy, Blocking::Inline, settings()).await;
    let (log, machine, handle) = opened.unwrap();
    let mut store = Store { log, machine, handle };
    store.log.save_vote(&Vote::new(2, 9)).await.unwrap();
    // Rows of the state have their own golden file, beside the registry.
    let proposed = fixture::proposal(None, Command::RetireGeneration(3));
    let entries = vec![members(1, 1, &[1]), blank(1, 2)];
    store.append([entries.clone(), vec![proposal(1, 3, proposed)]].concat()).await;
    store.apply(entries).await;
    store.log.save_committed(Some(log_id(1, 2))).await.unwrap();
    store.log.purge(log_id(1, 1)).await.unwrap();
    store.handle.note_contact(Stamp(77_000_000));
    store.handle.record(vec![event("ada")]).await.unwrap();
    store.handle.close().await.unwrap();
    let found = dump(&disk);
    assert_eq!(found, include_str!("golden.txt"), "found:\n{found}");
}

#[tokio::test(start_paused = true)]
async fn a_store_of_a_later_format_is_refused_and_left_alone() {
    let disk = MemoryDisk::new();
    let store = open_on(&disk).await;
    store.handle.close().await.unwrap();
    {
        let database = Database::open_intact(Arc::new(disk.clone()), &tables::LAYOUT).unwrap();
        let tx = database.get().unwrap().begin_write().unwrap();
        tables::KEY_FORMAT.put(&tx, &(tables::FORMAT + 1)).unwrap();
        tx.commit().unwrap();
    }
    let refused = try_open(&disk).await;
    assert!(refused.is_err_and(|e| e.to_string().contains("format 2")));
    assert!(disk.identity(&format!("{}.failed-1", tables::FILE)).unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_row_is_named_and_never_passed_over() {
    let disk = MemoryDisk::new();
    let mut store = open_on(&disk).await;
    store.append(vec![blank(1, 1), blank(1, 2), blank(1, 3)]).await;
    store.handle.close().await.unwrap();
    let change = |change: fn(&redb::WriteTransaction)| {
        let disk = disk.snapshot();
        {
            let opened = Database::open_intact(Arc::new(disk.clone()), &tables::LAYOUT);
            let tx = opened.unwrap().get().unwrap().begin_write().unwrap();
            change(&tx);
            tx.commit().unwrap();
        }
        disk
    };
    let missing = change(|tx| {
        tx.open_table(tables::LOG).unwrap().remove(2).unwrap();
    });
    let mut reader = open_on(&missing).await.log.get_log_reader().await;
    let error = reader.try_get_log_entries(..).await.unwrap_err();
    assert!(error.to_string().contains("entry 2 of the log is missing"), "{error}");
    let noise = change(|tx| {
        tx.open_table(tables::LOG).unwrap().insert(3, &b"noise"[..]).unwrap();
    });
    // With peers it is set aside; without any, it is an error.
    let error = try_open_alone(&noise).await.err().unwrap();
    assert!(error.to_string().contains("entry 3 of the log"), "{error}");
    let strange = change(|tx| {
        tx.open_table(tables::STATE).unwrap().insert(&b"?"[..], &b"?"[..]).unwrap();
    });
    assert!(try_open_alone(&strange).await.is_err());
}

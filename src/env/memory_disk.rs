//! A disk in memory that knows what was synced, so that a test can ask what a crash leaves. Each
//! crash gives a new disk; whoever still holds the old one changes nothing there.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use redb::StorageBackend;

use super::disk::{Disk, check_file_name};

/// What a sector of a disk is: smaller writes are not torn.
const SECTOR_LEN: usize = 512;
/// The system's number for an error of the device.
const EIO: i32 = 5;

/// What a crash does to writes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// They are gone (power loss).
    LoseUnsynced,
    /// They are there (the process was killed, the machine was not).
    KeepUnsynced,
    /// Any of their sectors, in any order, drawn from this seed (power loss in the middle).
    TearUnsynced(u64),
}

/// A disk in memory. Clones are one disk; [`MemoryDisk::snapshot`] makes a second one.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    files: BTreeMap<String, Arc<Mutex<Content>>>,
    inodes_given: u64,
    boot: u64,
    faults: Arc<Mutex<Faults>>,
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// Bytes that can still be written; `None` where there is no limit.
    room: Option<u64>,
    /// Whatever writes or syncs fails.
    is_failing: bool,
    /// What is synced says so, and is not.
    is_lying: bool,
}

impl Faults {
    /// Takes note that `len` more bytes are written, or says why they are not.
    fn take(&mut self, len: usize) -> io::Result<()> {
        if self.is_failing {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if let Some(left) = self.room {
            let left = left.checked_sub(len as u64);
            self.room = Some(left.ok_or(io::ErrorKind::StorageFull)?);
        }
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Content {
    inode: u64,
    /// As whoever reads sees it.
    bytes: Vec<u8>,
    /// As it is on disk; absent where the file itself was never synced.
    synced: Option<Vec<u8>>,
    /// What lies between the two, in order.
    unsynced: Vec<Change>,
    /// Which of the bytes take room.
    taken: Taken,
    /// Whether a database has it open.
    is_open: bool,
}

/// Which parts of a file take room, each from where to where. Where it was only made longer it takes
/// none, as on the file systems of Linux, and there may be none when something is written there.
#[derive(Clone, Default)]
struct Taken(BTreeMap<usize, usize>);

impl Taken {
    /// How far of `start..end` can be written where `room` bytes are left, and how many are then.
    fn fits(&self, start: usize, end: usize, mut room: u64) -> (usize, u64) {
        let mut at = start;
        while at < end {
            let over = self.0.range(..=at).next_back().filter(|(_, to)| **to > at);
            let next = over.or_else(|| self.0.range(at..end).next());
            let (from, to) = next.map_or((end, end), |(from, to)| (*from, *to));
            let new = from.saturating_sub(at) as u64;
            let Some(left) = room.checked_sub(new) else {
                return (at + usize::try_from(room).unwrap_or_default(), 0);
            };
            (at, room) = (to.min(end), left);
        }
        (at, room)
    }

    fn take(&mut self, mut start: usize, mut end: usize) {
        let near = self.0.range(..=end).rev().take_while(|(_, to)| **to >= start);
        let near: Vec<(usize, usize)> = near.map(|(from, to)| (*from, *to)).collect();
        for (from, to) in near {
            self.0.remove(&from);
            (start, end) = (start.min(from), end.max(to));
        }
        self.0.insert(start, end);
    }

    /// Gives back what is behind `len`; how many bytes that is.
    fn cut(&mut self, len: usize) -> u64 {
        let mut freed: usize = self.0.split_off(&len).iter().map(|(from, to)| to - from).sum();
        if let Some(mut last) = self.0.last_entry()
            && *last.get() > len
        {
            freed += last.insert(len) - len;
        }
        freed as u64
    }
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => bytes.resize(*len, 0),
            Self::Write { offset, data } => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
        }
    }

    /// Applies each sector of it or not, as drawn.
    fn apply_torn(&self, bytes: &mut Vec<u8>, rng: &mut StdRng) {
        match self {
            Self::SetLen(_) if rng.random() => self.apply(bytes),
            Self::SetLen(_) => {}
            Self::Write { offset, data } => {
                let mut at = *offset;
                let mut rest = &data[..];
                while !rest.is_empty() {
                    let to_boundary = SECTOR_LEN - at % SECTOR_LEN;
                    let (sector, later) = rest.split_at(to_boundary.min(rest.len()));
                    if rng.random() {
                        Self::Write { offset: at, data: sector.to_vec() }.apply(bytes);
                    }
                    at += sector.len();
                    rest = later;
                }
            }
        }
    }
}

impl Content {
    /// Says how many bytes of room it gave back.
    fn change(&mut self, change: Change) -> u64 {
        let freed = match &change {
            Change::Write { offset, data } => {
                self.taken.take(*offset, offset + data.len());
                0
            }
            Change::SetLen(len) => self.taken.cut(*len),
        };
        change.apply(&mut self.bytes);
        self.unsynced.push(change);
        freed
    }

    fn sync(&mut self) {
        let synced = self.synced.get_or_insert_default();
        for change in self.unsynced.drain(..) {
            change.apply(synced);
        }
    }

    /// The file after a crash; `None` where it is gone.
    fn crashed(&self, mode: CrashMode, rng: &mut StdRng) -> Option<Content> {
        let bytes = match mode {
            CrashMode::KeepUnsynced => self.bytes.clone(),
            CrashMode::LoseUnsynced => self.synced.clone()?,
            CrashMode::TearUnsynced(_) => {
                if self.synced.is_none() && rng.random() {
                    return None;
                }
                let mut bytes = self.synced.clone().unwrap_or_default();
                self.unsynced.iter().for_each(|change| change.apply_torn(&mut bytes, rng));
                bytes
            }
        };
        let mut taken = self.taken.clone();
        taken.cut(bytes.len());
        Some(Content {
            inode: self.inode,
            synced: Some(bytes.clone()),
            bytes,
            taken,
            unsynced: Vec::new(),
            is_open: false,
        })
    }
}

impl MemoryDisk {
    /// An empty disk without a limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk as the next start finds it. Losing power also means another boot of the machine.
    pub fn crash(&self, mode: CrashMode) -> Self {
        let seed = if let CrashMode::TearUnsynced(seed) = mode { seed } else { 0 };
        let mut rng = StdRng::seed_from_u64(seed);
        let state = self.state();
        let survive = |(name, content): (&String, &Arc<Mutex<Content>>)| {
            let content = lock(content).crashed(mode, &mut rng)?;
            Some((name.clone(), Arc::new(Mutex::new(content))))
        };
        let files = state.files.iter().filter_map(survive).collect();
        let boot = state.boot + u64::from(mode != CrashMode::KeepUnsynced);
        // The device is the same, and as bad.
        let faults = Arc::new(Mutex::new(*lock(&state.faults)));
        Self(Arc::new(Mutex::new(State { files, boot, faults, inodes_given: state.inodes_given })))
    }

    /// An old copy: this disk as it is now, with the same identities, as a machine that is rolled
    /// back finds it. With [`MemoryDisk::copied`] and [`MemoryDisk::rebooted`] it is less alike.
    pub fn snapshot(&self) -> Self {
        self.crash(CrashMode::KeepUnsynced)
    }

    /// The same content in files that are others to [`Disk::identity`], as `cp` makes them.
    pub fn copied(self) -> Self {
        {
            let mut state = self.state();
            for content in state.files.values() {
                lock(content).inode += 1 << 32;
            }
            state.inodes_given += 1 << 32;
        }
        self
    }

    /// The same after another boot of the machine.
    pub fn rebooted(self) -> Self {
        self.state().boot += 1;
        self
    }

    /// Only `room` more bytes can be written; then writes fail as on a full disk.
    pub fn fill(&self, room: u64) {
        lock(&self.state().faults).room = Some(room);
    }

    /// There is room again.
    pub fn free(&self) {
        lock(&self.state().faults).room = None;
    }

    /// From now on whatever writes or syncs fails, or does not any more. Reading goes on.
    pub fn fail(&self, is_failing: bool) {
        lock(&self.state().faults).is_failing = is_failing;
    }

    /// From now on nothing that is synced is on disk, though the disk says so; or it is again. What
    /// was not on disk then is with the next sync.
    pub fn lie(&self, is_lying: bool) {
        lock(&self.state().faults).is_lying = is_lying;
    }

    /// Bytes in all files.
    pub fn len_total(&self) -> u64 {
        self.state().files.values().map(|content| lock(content).bytes.len() as u64).sum()
    }

    /// The files that hold these bytes anywhere, free pages and what was not synced included: where
    /// something must not be.
    pub fn files_with(&self, needle: &[u8]) -> Vec<String> {
        let holds = |bytes: &[u8]| bytes.windows(needle.len().max(1)).any(|part| part == needle);
        let state = self.state();
        let found = state.files.iter().filter(|(_, content)| {
            let content = lock(content);
            let unsynced = content.unsynced.iter().any(|change| match change {
                Change::Write { data, .. } => holds(data),
                Change::SetLen(_) => false,
            });
            unsynced || holds(&content.bytes) || content.synced.as_deref().is_some_and(holds)
        });
        found.map(|(name, _)| name.clone()).collect()
    }

    /// The names of all files that begin so, in order.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let state = self.state();
        state.files.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    fn file(&self, name: &str) -> io::Result<Arc<Mutex<Content>>> {
        check_file_name(name)?;
        let mut state = self.state();
        if let Some(content) = state.files.get(name) {
            return Ok(content.clone());
        }
        state.inodes_given += 1;
        let content = Content { inode: state.inodes_given, ..Content::default() };
        let content = Arc::new(Mutex::new(content));
        state.files.insert(name.to_owned(), content.clone());
        Ok(content)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory of such a disk: the files whose names begin so.
struct Part {
    disk: MemoryDisk,
    prefix: String,
}

impl Part {
    fn name(&self, name: &str) -> io::Result<String> {
        check_file_name(name)?;
        Ok(format!("{}{name}", self.prefix))
    }
}

impl Disk for Part {
    fn database(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        self.disk.database(&self.name(name)?)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.disk.read(&self.name(name)?)
    }

    fn write(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        self.disk.write(&self.name(name)?, bytes, durable)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(&self.name(name)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(&self.name(from)?, &self.name(to)?)
    }

    fn identity(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.disk.identity(&self.name(name)?)
    }

    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        self.disk.len(&self.name(name)?)
    }

    fn room(&self) -> io::Result<Option<(u64, u64)>> {
        self.disk.room()
    }

    fn machine_boot(&self) -> Option<Vec<u8>> {
        self.disk.machine_boot()
    }
}

impl Disk for MemoryDisk {
    fn database(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let content = self.file(name)?;
        {
            let mut content = lock(&content);
            if content.is_open {
                return Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    format!("{name} is open already"),
                ));
            }
            content.is_open = true;
            content.synced.get_or_insert_default();
        }
        Ok(Box::new(MemoryBackend { content, faults: self.state().faults.clone() }))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        check_file_name(name)?;
        Ok(self.state().files.get(name).map(|content| lock(content).bytes.clone()))
    }

    fn write(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        check_file_name(name)?;
        let is_lying = {
            let state = self.state();
            // A durable write makes a new file beside the old one.
            let known = state.files.get(name).filter(|_| !durable);
            let known = known.map_or(0, |content| lock(content).bytes.len());
            let mut faults = lock(&state.faults);
            faults.take(bytes.len().saturating_sub(known))?;
            faults.is_lying
        };
        let content = self.file(name)?;
        let mut content = lock(&content);
        if durable && !is_lying {
            content.bytes = bytes.to_vec();
            content.taken = Taken(BTreeMap::from([(0, bytes.len())]));
            content.unsynced.clear();
            content.synced = Some(bytes.to_vec());
            return Ok(());
        }
        content.change(Change::Write { offset: 0, data: bytes.to_vec() });
        if content.bytes.len() > bytes.len() {
            content.change(Change::SetLen(bytes.len()));
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_file_name(name)?;
        let mut state = self.state();
        lock(&state.faults).take(0)?;
        state.files.remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_file_name(from)?;
        check_file_name(to)?;
        let mut state = self.state();
        lock(&state.faults).take(0)?;
        let content = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn identity(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        check_file_name(name)?;
        let state = self.state();
        Ok(state.files.get(name).map(|content| lock(content).inode.to_be_bytes().to_vec()))
    }

    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        check_file_name(name)?;
        Ok(self.state().files.get(name).map(|content| lock(content).bytes.len() as u64))
    }

    fn directory(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = path.display().to_string().chars().map(plain).collect();
        Ok(Arc::new(Part { disk: self.clone(), prefix: format!("{name}.") }))
    }

    fn room(&self) -> io::Result<Option<(u64, u64)>> {
        let room = lock(&self.state().faults).room;
        Ok(room.map(|available| (available, available)))
    }

    fn machine_boot(&self) -> Option<Vec<u8>> {
        Some(self.state().boot.to_be_bytes().to_vec())
    }
}

struct MemoryBackend {
    content: Arc<Mutex<Content>>,
    faults: Arc<Mutex<Faults>>,
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryBackend")
    }
}

impl Drop for MemoryBackend {
    fn drop(&mut self) {
        lock(&self.content).is_open = false;
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl StorageBackend for MemoryBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.content).bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = lock(&self.content);
        let start = position(offset)?;
        let end = start.checked_add(out.len()).ok_or(io::ErrorKind::InvalidInput)?;
        let bytes = content.bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut content = lock(&self.content);
        let len = position(len)?;
        let mut faults = lock(&self.faults);
        faults.take(0)?;
        let freed = content.change(Change::SetLen(len));
        faults.room = faults.room.map(|room| room + freed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut content = lock(&self.content);
        let mut faults = lock(&self.faults);
        faults.take(0)?;
        if !faults.is_lying {
            content.sync();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = position(offset)?;
        let mut content = lock(&self.content);
        let mut faults = lock(&self.faults);
        faults.take(0)?;
        let end = offset + data.len();
        let fits = match faults.room {
            None => end,
            // As on a real disk, what was written there before takes no new room, and what there
            // is room for is written.
            Some(room) => {
                let (fits, left) = content.taken.fits(offset, end, room);
                faults.room = Some(left);
                fits
            }
        };
        if fits > offset {
            let data = data[..fits - offset].to_vec();
            content.change(Change::Write { offset, data });
        }
        if fits < end { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;

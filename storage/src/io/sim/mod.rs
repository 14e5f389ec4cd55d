//! A disk in memory, for tests: it loses what was not synced, tears and reorders what is in flight, refuses, cuts short,
//! fills up, and crashes at any operation, all by a seed. Compiled for tests only.
//!
//! Harsher than any real file system: a name is durable only once its directory was synced, a file's length and each of
//! its sectors survive by themselves, and a sync that failed makes the next one lie.

mod queue;
mod rng;
mod tree;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use super::BLOCK;
use super::plain::named;
use crate::Result;
pub use rng::Rng;
use tree::{DirNode, FileNode, Id, Node};

pub(super) use queue::{QueueGuard, in_turn, install, run};

/// What goes wrong by chance (one in so many operations, 0: never), and bugs that tests plant to see them found.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub short_writes_one_in: u64,
    /// EIO.
    pub failed_writes_one_in: u64,
    /// EIO, and what was to be synced may be lost although it can still be read.
    pub failed_syncs_one_in: u64,
    /// Planted: a directory's sync does nothing.
    pub forget_sync_dir: bool,
    /// Planted: a short write is reported as a whole one.
    pub swallow_short_writes: bool,
    /// Planted: a write is reported as done before it is.
    pub acknowledge_before_writing: bool,
}

/// How the machine, or the process, ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// What was written survives; what is in flight may be torn.
    Kill,
    /// Of what was not synced any part may be lost.
    PowerLoss,
}

/// Cheap to clone: the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug)]
struct State {
    rng: Rng,
    faults: Faults,
    /// By id; the first is the root. Those without a name are kept for descriptors, and for names that come back.
    nodes: Vec<Node>,
    operations: u64,
    bytes_read: u64,
    /// The operation that does not return.
    crash_at: Option<u64>,
    crashed: bool,
    full: bool,
    /// Writes that were under way when the crash came.
    in_flight: Vec<(Id, u64, Vec<u8>)>,
    /// Reported as done, but not carried out yet.
    pretended: Vec<(Id, u64, Vec<u8>)>,
    trace: DefaultHasher,
}

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl SimDisk {
    pub fn new(seed: u64) -> SimDisk {
        let state = State {
            rng: Rng::new(seed),
            faults: Faults::default(),
            nodes: vec![Node::Dir(DirNode::default())],
            operations: 0,
            bytes_read: 0,
            crash_at: None,
            crashed: false,
            full: false,
            in_flight: Vec::new(),
            pretended: Vec::new(),
            trace: DefaultHasher::new(),
        };
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// While it is full nothing grows: ENOSPC.
    pub fn set_full(&self, full: bool) {
        self.state.lock().full = full;
    }

    /// After so many more operations the next one is cut off, and every later one fails.
    pub fn crash_after(&self, operations: u64) {
        let mut state = self.state.lock();
        state.crash_at = Some(state.operations + operations + 1);
    }

    pub fn crash_now(&self) {
        self.state.lock().crashed = true;
    }

    pub fn has_crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// By descriptors, whole small files aside.
    pub fn bytes_read(&self) -> u64 {
        self.state.lock().bytes_read
    }

    /// A number for all operations so far and their results: two runs with the same are the same.
    pub fn trace(&self) -> u64 {
        self.state.lock().trace.finish()
    }

    /// The disk as the next process finds it. This one stays crashed.
    pub fn restart(&self, crash: Crash) -> SimDisk {
        self.crash_now();
        let mut state = self.state.lock().clone();
        state.pretended.clear();
        for (id, pos, bytes) in std::mem::take(&mut state.in_flight) {
            let arrived = tree::torn(&bytes, &mut state.rng);
            state.put(id, pos, &bytes[..arrived]);
        }
        if crash == Crash::PowerLoss {
            for node in &mut state.nodes {
                match node {
                    Node::File(file) => file.lose_power(&mut state.rng),
                    Node::Dir(dir) => dir.lose_power(&mut state.rng),
                }
            }
        }
        state.faults = Faults::default();
        (state.crashed, state.crash_at, state.full) = (false, None, false);
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn unique_id(&self) -> Uuid {
        let rng = &mut self.state.lock().rng;
        Uuid::from_u64_pair(rng.number(), rng.number())
    }

    /// One operation: counted, traced, and cut off if it is the last one.
    fn operation<T>(
        &self,
        name: &'static str,
        path: &Path,
        numbers: (u64, u64),
        effect: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state.lock();
        if state.crashed {
            return Err(errno(libc::EIO));
        }
        state.operations += 1;
        (name, path, numbers).hash(&mut state.trace);
        if state.crash_at == Some(state.operations) {
            state.crashed = true;
            if state.rng.coin() {
                let _ = effect(&mut state);
            }
            return Err(errno(libc::EIO));
        }
        if name != "write" || state.rng.one_in(4) {
            state.carry_out_pretended();
        }
        let result = effect(&mut state);
        result.as_ref().err().map(io::Error::raw_os_error).hash(&mut state.trace);
        result
    }

    pub(super) fn create_dir_all(&self, dir: &Path) -> Result<()> {
        let mut made = PathBuf::new();
        for part in dir.components() {
            made.push(part);
            if !self.is_dir(&made) {
                let make = self.operation("mkdir", &made, (0, 0), |state| {
                    let (parent, name) = state.parent(&made)?;
                    if state.dir(parent)?.entries.contains_key(&name) {
                        return Err(errno(libc::EEXIST));
                    }
                    let id = state.add(Node::Dir(DirNode::default()));
                    state.dir(parent)?.change(vec![(name, Some(id))]);
                    Ok(())
                });
                named("create directory", dir, make)?;
            }
        }
        Ok(())
    }

    pub(super) fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let list = self.operation("list", dir, (0, 0), |state| {
            let id = state.find(dir)?;
            Ok(state.dir(id)?.entries.keys().cloned().collect())
        });
        named("list", dir, list)
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        self.state.lock().find(path).is_ok()
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        let mut state = self.state.lock();
        state.find(path).and_then(|id| state.dir(id).map(|_| ())).is_ok()
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let rename = self.operation("rename", from, (0, 0), |state| {
            let id = state.find(from)?;
            let ((parent, from), (also, to)) = (state.parent(from)?, state.parent(to)?);
            assert_eq!(parent, also, "the engine renames within a directory");
            if let Some(&old) = state.dir(parent)?.entries.get(&to)
                && matches!(state.nodes[old], Node::Dir(_))
            {
                return Err(errno(libc::EISDIR));
            }
            state.dir(parent)?.change(vec![(from, None), (to, Some(id))]);
            Ok(())
        });
        named("rename", from, rename)
    }

    pub(super) fn remove_file(&self, path: &Path) -> Result<()> {
        if !self.exists(path) && !self.has_crashed() {
            return Ok(());
        }
        let remove = self.operation("remove", path, (0, 0), |state| state.unlink(path));
        named("remove", path, remove)
    }

    pub(super) fn remove_dir_all(&self, path: &Path) -> Result<()> {
        if !self.exists(path) && !self.has_crashed() {
            return Ok(());
        }
        for name in self.list(path)? {
            let child = path.join(name);
            if self.is_dir(&child) {
                self.remove_dir_all(&child)?;
            } else {
                self.remove_file(&child)?;
            }
        }
        let remove = self.operation("rmdir", path, (0, 0), |state| state.unlink(path));
        named("remove directory", path, remove)
    }

    pub(super) fn sync_dir(&self, dir: &Path) -> Result<()> {
        let sync = self.operation("sync directory", dir, (0, 0), |state| {
            let id = state.find(dir)?;
            if !state.faults.forget_sync_dir {
                state.dir(id)?.sync();
            }
            Ok(())
        });
        named("sync directory", dir, sync)
    }

    pub(super) fn sync_file_system(&self, dir: &Path) -> Result<()> {
        let sync = self.operation("sync file system", dir, (0, 0), |state| {
            for id in 0..state.nodes.len() {
                match &mut state.nodes[id] {
                    Node::File(_) => state.sync(id, u64::MAX)?,
                    Node::Dir(dir) => dir.sync(),
                }
            }
            Ok(())
        });
        named("sync file system of", dir, sync)
    }

    pub(super) fn read_small(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let read = self.operation("read", path, (0, 0), |state| match state.find(path) {
            Ok(id) => Ok(Some(state.file(id).content.clone())),
            Err(_) => Ok(None),
        });
        named("read", path, read)
    }

    pub(super) fn open(&self, path: &Path, create: bool, read_only: bool) -> Result<SimFile> {
        let open =
            self.operation("open", path, (u64::from(create), u64::from(read_only)), |state| match state.find(path) {
                Ok(id) if matches!(state.nodes[id], Node::Dir(_)) => Err(errno(libc::EISDIR)),
                Ok(id) => Ok(id),
                Err(_) if create && !read_only => {
                    let (parent, name) = state.parent(path)?;
                    if state.full {
                        return Err(errno(libc::ENOSPC));
                    }
                    let id = state.add(Node::File(FileNode::default()));
                    state.dir(parent)?.change(vec![(name, Some(id))]);
                    Ok(id)
                }
                Err(missing) => Err(missing),
            });
        let id = named("open", path, open)?;
        Ok(SimFile { disk: self.clone(), id, path: path.to_owned(), read_only })
    }

    /// A write that a crash found under way.
    fn note_in_flight(&self, file: &SimFile, pos: u64, bytes: Vec<u8>) {
        self.state.lock().in_flight.push((file.id, pos, bytes));
    }
}

impl State {
    fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn find(&mut self, path: &Path) -> io::Result<Id> {
        let mut id = 0;
        for name in path.iter().filter(|name| *name != "/") {
            let name = name.to_str().expect("tests use UTF-8");
            id = *self.dir(id)?.entries.get(name).ok_or_else(|| errno(libc::ENOENT))?;
        }
        Ok(id)
    }

    /// The directory of `path`, and its name there.
    fn parent(&mut self, path: &Path) -> io::Result<(Id, String)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(errno(libc::EINVAL)) };
        Ok((self.find(parent)?, name.to_str().expect("tests use UTF-8").to_owned()))
    }

    fn dir(&mut self, id: Id) -> io::Result<&mut DirNode> {
        match &mut self.nodes[id] {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(errno(libc::ENOTDIR)),
        }
    }

    fn file(&mut self, id: Id) -> &mut FileNode {
        match &mut self.nodes[id] {
            Node::File(file) => file,
            Node::Dir(_) => unreachable!("descriptors are of files"),
        }
    }

    fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        self.dir(parent)?.change(vec![(name, None)]);
        Ok(())
    }

    fn put(&mut self, id: Id, pos: u64, bytes: &[u8]) {
        let number = self.operations;
        if !bytes.is_empty() {
            self.file(id).write(number, pos as usize, bytes);
        }
    }

    fn carry_out_pretended(&mut self) {
        for (id, pos, bytes) in std::mem::take(&mut self.pretended) {
            self.put(id, pos, &bytes);
        }
    }

    fn write(&mut self, id: Id, pos: u64, bytes: &[u8]) -> io::Result<usize> {
        if self.rng.one_in(self.faults.failed_writes_one_in) {
            return Err(errno(libc::EIO));
        }
        if self.full && pos as usize + bytes.len() > self.file(id).content.len() {
            return Err(errno(libc::ENOSPC));
        }
        if self.faults.acknowledge_before_writing {
            self.pretended.push((id, pos, bytes.to_vec()));
            return Ok(bytes.len());
        }
        if !self.rng.one_in(self.faults.short_writes_one_in) {
            self.put(id, pos, bytes);
            return Ok(bytes.len());
        }
        let written = self.rng.below(bytes.len() as u64) as usize;
        // Whole blocks are cut between blocks.
        let blocks = (pos as usize).is_multiple_of(BLOCK) && bytes.len().is_multiple_of(BLOCK);
        let written = if blocks { written - written % BLOCK } else { written };
        if written == 0 {
            return Err(errno(libc::EINTR));
        }
        self.put(id, pos, &bytes[..written]);
        Ok(if self.faults.swallow_short_writes { bytes.len() } else { written })
    }

    fn sync(&mut self, id: Id, number: u64) -> io::Result<()> {
        let State { rng, nodes, faults, .. } = self;
        let Node::File(file) = &mut nodes[id] else { unreachable!("descriptors are of files") };
        if rng.one_in(faults.failed_syncs_one_in) {
            file.fail_sync(rng);
            return Err(errno(libc::EIO));
        }
        file.sync(number);
        Ok(())
    }

    fn sync_range(&mut self, id: Id, pos: u64, len: u64) -> io::Result<()> {
        if self.rng.one_in(self.faults.failed_syncs_one_in) {
            return Err(errno(libc::EIO));
        }
        self.file(id).sync_range(pos as usize..(pos + len) as usize);
        Ok(())
    }
}

/// A file of the simulated disk, for as long as its process lives.
#[derive(Clone, Debug)]
pub(super) struct SimFile {
    disk: SimDisk,
    id: Id,
    path: PathBuf,
    read_only: bool,
}

impl SimFile {
    fn operation<T>(
        &self,
        name: &'static str,
        numbers: (u64, u64),
        effect: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.read_only && name != "read" {
            return Err(errno(libc::EBADF));
        }
        self.disk.operation(name, &self.path, numbers, effect)
    }

    pub fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state.lock().file(self.id).content.len() as u64)
    }

    pub fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.operation("read", (pos, buf.len() as u64), |state| {
            let content = state.file(self.id).content.get(pos as usize..).unwrap_or_default();
            let read = content.len().min(buf.len());
            buf[..read].copy_from_slice(&content[..read]);
            state.bytes_read += read as u64;
            Ok(read)
        })
    }

    pub fn write_at(&self, bytes: &[u8], pos: u64) -> io::Result<usize> {
        self.operation("write", (pos, bytes.len() as u64), |state| state.write(self.id, pos, bytes))
    }

    pub fn allocate(&self, len: u64) -> io::Result<()> {
        self.operation("allocate", (len, 0), |state| {
            let (number, grows) = (state.operations, state.file(self.id).content.len() < len as usize);
            if grows && state.full {
                return Err(errno(libc::ENOSPC));
            }
            if grows {
                state.file(self.id).set_len(number, len as usize);
            }
            Ok(())
        })
    }

    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.operation("truncate", (len, 0), |state| {
            let number = state.operations;
            state.file(self.id).set_len(number, len as usize);
            Ok(())
        })
    }

    pub fn sync_data(&self) -> io::Result<()> {
        self.operation("sync", (0, 0), |state| state.sync(self.id, u64::MAX))
    }

    pub fn sync_range(&self, pos: u64, len: u64) -> io::Result<()> {
        self.operation("sync range", (pos, len), |state| state.sync_range(self.id, pos, len))
    }

    /// Begins to sync; the result is what was written before it began.
    pub fn begin_sync(&self) -> impl FnOnce() -> io::Result<()> + use<> {
        let (file, number) = (self.clone(), self.disk.operations());
        move || file.operation("sync", (0, 0), |state| state.sync(file.id, number))
    }
}

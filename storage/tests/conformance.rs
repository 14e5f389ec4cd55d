//! What every io backend must do, as one suite that runs over each of them. Where the machine refuses io_uring or
//! O_DIRECT, the probe gives the plain backend, and the suite says so.

use std::cell::Cell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ottla_storage::io::{
    BLOCK, Backend, ChunkPool, ChunkWriter, DirectSlice, File, Io, OpenOptions, Part, install_ring,
};
use tempfile::TempDir;
use tokio::task::LocalSet;

/// One backend under test, on a directory of its own.
struct Disk {
    io: Io,
    dir: TempDir,
    /// Whether the runtime's thread has a ring.
    ring: bool,
}

impl Disk {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file on the write path: direct where the backend does that, with `blocks` allocated.
    fn segment(&self, blocks: usize) -> File {
        let file = self.io.open(&self.path("segment"), create(true)).unwrap();
        file.allocate((blocks * BLOCK) as u64).unwrap();
        file
    }

    fn write_file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Runs `test` as a thread of the broker would.
    fn run<F: Future<Output = ()>>(&self, test: impl FnOnce() -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let guard = self.ring.then(|| install_ring(&self.io).unwrap());
            tokio::time::timeout(Duration::from_secs(20), test()).await.expect("nothing hangs");
            drop(guard);
        });
    }
}

/// Runs `test` over every backend, and over the direct files of `Uring` on a thread without a ring.
fn on_every_backend(test: impl Fn(&Disk)) {
    // Not the system's temporary directory, which may be a tmpfs without O_DIRECT.
    let dir = || TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    test(&Disk { io: Io::plain(), dir: dir(), ring: true });
    for ring in [true, false] {
        let dir = dir();
        let io = Io::probe(dir.path());
        if io.backend() == Backend::Plain {
            eprintln!("io_uring with O_DIRECT is refused here: only the plain backend is tested");
            return;
        }
        test(&Disk { io, dir, ring });
    }
}

fn create(direct: bool) -> OpenOptions {
    OpenOptions { create: true, read_only: false, direct }
}

fn read_only(direct: bool) -> OpenOptions {
    OpenOptions { create: false, read_only: true, direct }
}

/// Bytes that differ from block to block and within one.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ (i / BLOCK) as u8).collect()
}

fn chunk_with(content: &[u8]) -> ChunkWriter {
    let mut writer = ChunkPool::new(0).take(content.len().next_multiple_of(BLOCK));
    assert_eq!(writer.append(content), content.len());
    writer
}

fn direct(content: &[u8]) -> DirectSlice {
    chunk_with(content).direct_slice(0)
}

fn content_of(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn the_namespace_is_created_listed_renamed_and_removed() {
    on_every_backend(|disk| {
        let (io, sub) = (&disk.io, disk.path("a/b"));
        io.create_dir_all(&sub).unwrap();
        io.create_dir_all(&sub).unwrap();
        assert_eq!(io.list(&sub).unwrap(), [""; 0]);
        for name in ["c", "a", "b"] {
            io.open(&sub.join(name), create(false)).unwrap();
        }
        assert_eq!(io.list(&sub).unwrap(), ["a", "b", "c"]);
        io.rename(&sub.join("a"), &sub.join("d")).unwrap();
        io.rename(&sub.join("b"), &sub.join("c")).unwrap();
        io.remove_file(&sub.join("missing")).unwrap();
        assert_eq!(io.list(&sub).unwrap(), ["c", "d"]);
        assert!(io.exists(&sub.join("c")) && !io.exists(&sub.join("a")));
        io.sync_dir(&sub).unwrap();
        io.remove_dir_all(&disk.path("a")).unwrap();
        io.remove_dir_all(&disk.path("a")).unwrap();
        assert!(!io.exists(&sub));
    });
}

#[test]
fn errors_name_the_operation_and_the_path() {
    on_every_backend(|disk| {
        let missing = disk.path("missing");
        let said = [
            disk.io.open(&missing, read_only(false)).unwrap_err().to_string(),
            disk.io.open(&missing, OpenOptions { direct: true, ..OpenOptions::default() }).unwrap_err().to_string(),
            disk.io.list(&missing).unwrap_err().to_string(),
            disk.io.rename(&missing, &disk.path("other")).unwrap_err().to_string(),
        ];
        for (said, op) in said.iter().zip(["open", "open", "list", "rename"]) {
            assert!(said.starts_with(&format!("{op} {}: ", missing.display())), "{said}");
        }
    });
}

#[test]
fn write_atomic_replaces_the_whole_or_nothing_and_leaves_no_temporary() {
    on_every_backend(|disk| {
        let path = disk.path("checkpoint");
        assert_eq!(disk.io.read_small(&path).unwrap(), None);
        for content in ["a longer first content", "second", ""] {
            disk.io.write_atomic(&path, content.as_bytes()).unwrap();
            assert_eq!(disk.io.read_small(&path).unwrap().unwrap(), content.as_bytes());
        }
        disk.write_file("checkpoint.tmp", b"left by a crash, longer than what comes next");
        disk.io.write_atomic(&path, b"third").unwrap();
        assert_eq!(disk.io.list(disk.dir.path()).unwrap(), ["checkpoint"]);

        // A directory in the way makes the rename fail: the old content stays.
        let taken = disk.path("taken");
        disk.io.create_dir_all(&taken.join("child")).unwrap();
        assert!(disk.io.write_atomic(&taken, b"new").is_err());
        assert_eq!(disk.io.list(disk.dir.path()).unwrap(), ["checkpoint", "taken"]);
        assert_eq!(content_of(&path), b"third");
    });
}

#[test]
fn blocking_reads_and_writes_work_at_any_alignment() {
    on_every_backend(|disk| {
        let content = pattern(300_000);
        let buffered = disk.io.open(&disk.path("f"), create(false)).unwrap();
        assert!(!buffered.is_direct());
        buffered.pwrite(&content[1000..], 1000).unwrap();
        buffered.pwrite(&content[..1000], 0).unwrap();
        buffered.sync_data_blocking().unwrap();
        assert_eq!(buffered.len().unwrap(), content.len() as u64);
        for file in [buffered, disk.io.open(&disk.path("f"), read_only(true)).unwrap()] {
            for (pos, len) in [(0, 1), (1, 10), (4095, 2), (4096, 4096), (5000, 280_000), (299_990, 10)] {
                let mut buf = vec![0; len];
                assert_eq!(file.pread(&mut buf, pos as u64).unwrap(), len);
                assert!(buf == content[pos..pos + len], "{len} at {pos}");
            }
            for (pos, len, read) in [(299_990, 100, 10), (300_000, 5, 0), (1 << 20, 5, 0), (0, 500_000, 300_000)] {
                assert_eq!(file.pread(&mut vec![0; len], pos).unwrap(), read);
            }
        }
    });
}

#[test]
fn a_file_opened_for_reading_cannot_be_written() {
    on_every_backend(|disk| {
        let path = disk.write_file("f", &[1; BLOCK]);
        assert!(disk.io.open(&path, read_only(false)).unwrap().pwrite(b"x", 0).is_err());
        disk.run(async || {
            let file = disk.io.open(&path, read_only(true)).unwrap();
            let refused = file.write_at(vec![direct(&[2; BLOCK]).into()], 0).await.unwrap_err().to_string();
            assert!(refused.starts_with(&format!("write {}: ", path.display())), "{refused}");
        });
        assert_eq!(content_of(&path), [1; BLOCK]);
    });
}

#[test]
fn allocated_space_reads_as_zeros_and_truncate_cuts_it() {
    on_every_backend(|disk| {
        let file = disk.segment(16);
        assert_eq!(file.len().unwrap(), 16 * BLOCK as u64);
        disk.run(async || {
            file.write_at(vec![direct(&pattern(BLOCK)).into()], BLOCK as u64).await.unwrap();
            file.allocate(8 * BLOCK as u64).unwrap(); // less than there is: nothing changes
            let read = file.read_at(0, 32 * BLOCK).await.unwrap();
            assert_eq!(read.len(), 16 * BLOCK);
            assert_eq!(read[BLOCK..2 * BLOCK], pattern(BLOCK));
            assert!(read[..BLOCK].iter().chain(&read[2 * BLOCK..]).all(|byte| *byte == 0));

            file.truncate(BLOCK as u64 + 10).unwrap();
            assert_eq!(file.read_at(BLOCK as u64, BLOCK).await.unwrap(), pattern(BLOCK)[..10]);
            file.sync_data().await.unwrap();
        });
        assert_eq!(content_of(file.path()).len(), BLOCK + 10);
    });
}

#[test]
fn what_is_written_comes_back_at_every_size_and_alignment() {
    on_every_backend(|disk| {
        let content = pattern(3 << 20);
        let file = disk.segment(content.len() / BLOCK);
        assert_eq!(file.is_direct(), disk.io.backend() == Backend::Uring);
        disk.run(async || {
            let mut pos = 0;
            for blocks in [1, 2, 16, 64, 256, 429] {
                let part = direct(&content[pos..pos + blocks * BLOCK]);
                file.write_at(vec![part.into()], pos as u64).await.unwrap();
                pos += blocks * BLOCK;
            }
            assert_eq!(pos, content.len());
            for reader in [file.clone(), disk.io.open(file.path(), read_only(false)).unwrap()] {
                for (pos, len) in [(0, 0), (0, 1), (4095, 2), (4096, 8192), (70_001, 600_000), (0, 3 << 20)] {
                    let read = reader.read_at(pos as u64, len).await.unwrap();
                    assert!(read == content[pos..pos + len], "{len} at {pos}");
                }
            }
        });
        assert!(content_of(file.path()) == content);
    });
}

#[test]
fn a_buffered_file_is_written_at_any_alignment() {
    on_every_backend(|disk| {
        let file = disk.io.open(&disk.path("f"), create(false)).unwrap();
        disk.run(async || {
            let parts = [&b"one "[..], b"", b"two ", b"three"].map(|text| Part::from(Bytes::from_static(text)));
            file.write_at(parts.into(), 3).await.unwrap();
            file.write_at(vec![], 0).await.unwrap();
            assert_eq!(file.read_at(0, 100).await.unwrap(), "\0\0\0one two three");
        });
    });
}

#[test]
fn adjacent_parts_are_written_as_one_range() {
    on_every_backend(|disk| {
        // More than one system call takes, from chunks and from plain bytes.
        let content = pattern(1500 * BLOCK);
        let writer = chunk_with(&content);
        let block = |i: usize| writer.chunk().slice(i * BLOCK, (i + 1) * BLOCK).into();
        let file = disk.segment(1500);
        disk.run(async || {
            file.write_at((0..1500).map(block).collect(), 0).await.unwrap();
            assert!(file.read_at(0, content.len()).await.unwrap() == content);
            file.write_at(vec![direct(&[7; BLOCK]).into(), block(0)], BLOCK as u64).await.unwrap();
            let read = file.read_at(BLOCK as u64, 2 * BLOCK).await.unwrap();
            assert!(read[..BLOCK] == [7; BLOCK] && read[BLOCK..] == content[..BLOCK]);
        });
    });
}

#[test]
fn a_chunk_is_written_while_it_grows() {
    on_every_backend(|disk| {
        let file = disk.segment(4);
        let mut writer = ChunkPool::new(0).take(4 * BLOCK);
        let content = pattern(4 * BLOCK);
        disk.run(async || {
            for step in content.chunks(1000) {
                let start = writer.chunk().len() / BLOCK * BLOCK;
                writer.append(step);
                file.write_at(vec![writer.direct_slice(start).into()], start as u64).await.unwrap();
            }
        });
        assert_eq!(content_of(file.path()), content);
    });
}

#[test]
fn reads_end_with_the_file() {
    on_every_backend(|disk| {
        let path = disk.write_file("f", &pattern(10_000));
        disk.run(async || {
            for direct in [false, true] {
                let file = disk.io.open(&path, read_only(direct)).unwrap();
                assert_eq!(file.read_at(9_000, 5_000).await.unwrap(), pattern(10_000)[9_000..]);
                assert_eq!(file.read_at(8_192, 1_808).await.unwrap(), pattern(10_000)[8_192..]);
                for pos in [10_000, 10_001, 12_288, 1 << 40] {
                    assert_eq!(file.read_at(pos, 100).await.unwrap().len(), 0, "at {pos}");
                }
            }
        });
    });
}

#[test]
fn what_is_in_the_page_cache_is_written_back_piece_by_piece_while_more_comes() {
    const PIECE: usize = 1 << 20;
    on_every_backend(|disk| {
        let content = pattern(3 * PIECE);
        disk.run(async || {
            let options = OpenOptions { create: true, ..OpenOptions::default() };
            let file = disk.io.open(&disk.path("cached"), options).unwrap();
            for at in [0, PIECE, 2 * PIECE] {
                file.write_at(vec![Bytes::copy_from_slice(&content[at..][..PIECE]).into()], at as u64).await.unwrap();
                file.write_back(at.saturating_sub(PIECE) as u64, PIECE as u64).await.unwrap();
            }
            file.write_back(0, 3 * PIECE as u64).await.unwrap();
            assert_eq!(file.read_at(0, 3 * PIECE).await.unwrap(), content);
        });
    });
}

#[test]
fn more_operations_than_the_ring_has_room_for_all_complete() {
    const FILES: usize = 4;
    const BLOCKS: usize = 250;
    on_every_backend(|disk| {
        let content = pattern(BLOCKS * BLOCK);
        let files: Vec<File> = (0..FILES)
            .map(|i| {
                let file = disk.io.open(&disk.path(&i.to_string()), create(true)).unwrap();
                file.allocate((BLOCKS * BLOCK) as u64).unwrap();
                file
            })
            .collect();
        disk.run(async || {
            let tasks: Vec<_> = (0..FILES * BLOCKS)
                .map(|i| {
                    let (file, pos) = (files[i % FILES].clone(), i / FILES * BLOCK);
                    let block = content[pos..pos + BLOCK].to_vec();
                    tokio::task::spawn_local(async move {
                        file.write_at(vec![direct(&block).into()], pos as u64).await.unwrap();
                        assert_eq!(file.read_at(pos as u64, BLOCK).await.unwrap(), block);
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert!(files.iter().all(|file| content_of(file.path()) == content));
    });
}

/// Polls `future` once, so that its operation is started, and drops it.
async fn start_and_drop(future: impl Future) {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        let _ = future.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
}

#[test]
fn a_write_whose_future_is_dropped_is_carried_out_and_holds_its_memory_until_then() {
    on_every_backend(|disk| {
        let file = disk.segment(300);
        let pool = ChunkPool::new(0);
        disk.run(async || {
            for i in 0..300 {
                let mut writer = pool.take(BLOCK);
                writer.append(&[i as u8; BLOCK]);
                start_and_drop(file.write_at(vec![writer.direct_slice(0).into()], (i * BLOCK) as u64)).await;
            }
            while pool.live_bytes() > 0 {
                tokio::task::yield_now().await;
            }
        });
        let written = content_of(file.path());
        assert!(written.chunks(BLOCK).enumerate().all(|(i, block)| block == [i as u8; BLOCK]));
    });
}

#[test]
fn reads_whose_futures_are_dropped_disturb_nobody() {
    on_every_backend(|disk| {
        let content = pattern(64 * BLOCK);
        let path = disk.write_file("f", &content);
        disk.run(async || {
            let file = disk.io.open(&path, read_only(true)).unwrap();
            for i in 0..500 {
                let pos = i % 64 * BLOCK;
                start_and_drop(file.read_at(pos as u64, BLOCK)).await;
                if i % 50 == 0 {
                    assert_eq!(file.read_at(pos as u64, 10).await.unwrap(), content[pos..pos + 10]);
                }
            }
        });
    });
}

#[test]
fn dropping_the_ring_waits_for_what_is_in_flight() {
    on_every_backend(|disk| {
        let file = disk.segment(200);
        let pool = ChunkPool::new(0);
        disk.run(async || {
            for i in 0..200 {
                let mut writer = pool.take(BLOCK);
                writer.append(&[1; BLOCK]);
                start_and_drop(file.write_at(vec![writer.direct_slice(0).into()], (i * BLOCK) as u64)).await;
            }
        });
        assert_eq!(pool.live_bytes(), 0);
        assert!(content_of(file.path()).iter().all(|byte| *byte == 1));
    });
}

#[test]
fn a_file_outlives_its_handles_while_operations_are_in_flight() {
    on_every_backend(|disk| {
        let path = disk.write_file("f", &pattern(8 * BLOCK));
        disk.run(async || {
            let reads: Vec<_> = (0..8)
                .map(|i| {
                    let file = disk.io.open(&path, read_only(true)).unwrap();
                    tokio::task::spawn_local(async move {
                        let read = file.read_at((i * BLOCK) as u64, BLOCK);
                        drop(file.clone());
                        read.await.unwrap()
                    })
                })
                .collect();
            disk.io.remove_file(&path).unwrap();
            for (i, read) in reads.into_iter().enumerate() {
                assert_eq!(read.await.unwrap(), pattern(8 * BLOCK)[i * BLOCK..(i + 1) * BLOCK]);
            }
        });
    });
}

#[test]
fn bytes_that_were_read_can_leave_their_thread_and_outlive_the_ring() {
    on_every_backend(|disk| {
        let path = disk.write_file("f", &pattern(100_000));
        let kept = Rc::new(Cell::new(Bytes::new()));
        disk.run(async || {
            let file = disk.io.open(&path, read_only(false)).unwrap();
            kept.set(file.read_at(1, 99_998).await.unwrap());
            // What comes next must not be read into memory that is still referred to.
            assert_eq!(file.read_at(50_000, 99_998).await.unwrap().len(), 50_000);
        });
        let kept = kept.take();
        let same = std::thread::spawn(move || kept == pattern(100_000)[1..99_999]).join().unwrap();
        assert!(same);
        disk.io.trim();
    });
}

#[test]
fn the_probe_leaves_nothing_behind_and_falls_back_where_it_cannot_write() {
    on_every_backend(|disk| {
        Io::probe(disk.dir.path());
        assert_eq!(disk.io.list(disk.dir.path()).unwrap(), [""; 0]);
        assert_eq!(Io::probe(&disk.path("missing")).backend(), Backend::Plain);
    });
}

#[test]
fn a_full_disk_is_said_to_be_one() {
    // /dev/full answers every write with ENOSPC.
    let io = Io::plain();
    let full = io.open(Path::new("/dev/full"), OpenOptions::default()).unwrap();
    assert!(full.pwrite(b"x", 0).unwrap_err().is_no_space());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(full.write_at(vec![Bytes::from_static(b"x").into()], 0)).unwrap_err();
    assert!(refused.is_no_space());
}

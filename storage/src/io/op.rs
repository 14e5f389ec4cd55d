//! One read, write or write-back: what it holds until the kernel is done, what is left of it, and what the kernel's
//! answer means.
//! It is carried out by system calls (`run`) or by a ring (`uring.rs`), which share the rules about short transfers.

use std::io;

use bytes::Bytes;
use io_uring::{opcode, squeue, types};

use super::chunk::{self, Buffer, Part};
use super::{BLOCK, File};

/// The most bytes that Linux moves in one call.
const TRANSFER_MAX: usize = 0x7fff_f000;

#[derive(Debug)]
pub(super) struct Op {
    file: File,
    data: Data,
    pos: u64,
    len: usize,
    done: usize,
}

#[derive(Debug)]
enum Data {
    Write {
        parts: Vec<Part>,
        iovecs: Vec<libc::iovec>,
        /// Done when it is on the disk.
        durable: bool,
    },
    /// `wanted` bytes from `skip` on are the caller's; the rest was read to reach whole blocks.
    Read {
        buffer: Buffer,
        skip: usize,
        wanted: usize,
    },
    WriteBack,
}

impl Op {
    pub fn write(file: &File, parts: Vec<Part>, pos: u64, durable: bool) -> Op {
        let len = parts.iter().map(Part::len).sum();
        if file.is_direct() {
            let aligned = |n: usize| n.is_multiple_of(BLOCK);
            debug_assert!(
                aligned(pos as usize) && parts.iter().all(|p| aligned(p.len()) && aligned(p.as_ptr() as usize))
            );
        }
        Op { file: file.clone(), data: Data::Write { parts, iovecs: Vec::new(), durable }, pos, len, done: 0 }
    }

    /// On a direct file the blocks that cover the range are read.
    pub fn read(file: &File, pos: u64, wanted: usize) -> Op {
        let (start, len) = if file.is_direct() {
            let start = pos - pos % BLOCK as u64;
            (start, ((pos - start) as usize + wanted).next_multiple_of(BLOCK))
        } else {
            (pos, wanted)
        };
        let data = Data::Read { buffer: file.buffers().buffer(len), skip: (pos - start) as usize, wanted };
        Op { file: file.clone(), data, pos: start, len, done: 0 }
    }

    /// Waits for what is being written back of a range of the page cache, and begins to write back the rest of it.
    pub fn write_back(file: &File, pos: u64, len: usize) -> Op {
        Op { file: file.clone(), data: Data::WriteBack, pos, len, done: 0 }
    }

    pub fn name(&self) -> &'static str {
        match self.data {
            Data::Write { .. } => "write",
            Data::Read { .. } => "read",
            Data::WriteBack => "write back",
        }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// What is left of a write on the simulated disk: the file, the position, the bytes.
    #[cfg(any(test, feature = "sim"))]
    pub fn pending_write(&self) -> Option<(super::sim::SimFile, u64, Vec<u8>)> {
        match (&self.data, self.file.handle()) {
            (Data::Write { parts, .. }, super::handle::Handle::Simulated(file)) => {
                Some((file.clone(), self.pos + self.done as u64, chunk::copied(parts, self.done)))
            }
            _ => None,
        }
    }

    /// What a finished read has read; nothing for a write.
    pub fn into_bytes(self) -> Bytes {
        match self.data {
            Data::Write { .. } | Data::WriteBack => Bytes::new(),
            Data::Read { buffer, skip, wanted } => {
                let end = self.done.clamp(skip, skip + wanted);
                buffer.freeze(skip..end)
            }
        }
    }

    /// Carries the operation out with system calls.
    pub fn run(mut self) -> (Op, io::Result<()>) {
        loop {
            let answer = self.call();
            let Some(mut result) = self.advance(answer) else { continue };
            if let Data::Write { durable: true, .. } = self.data {
                result = result.and_then(|()| self.file.handle().sync_range(self.pos, self.len as u64));
            }
            return (self, result);
        }
    }

    fn call(&mut self) -> io::Result<usize> {
        let pos = self.pos + self.done as u64;
        match &mut self.data {
            Data::Write { parts, .. } => self.file.handle().write_parts_at(parts, self.done, pos),
            Data::Read { buffer, .. } => {
                self.file.handle().read_at(&mut buffer.as_mut_slice()[self.done..self.len], pos)
            }
            Data::WriteBack => self.file.handle().write_back(pos, self.len as u64).map(|()| self.len),
        }
    }

    /// What is left, as an entry for a ring. It points into memory and to a descriptor that this operation owns: it
    /// must outlive the entry.
    pub fn entry(&mut self) -> squeue::Entry {
        let fd = types::Fd(self.file.handle().as_raw_fd());
        let pos = self.pos + self.done as u64;
        match &mut self.data {
            Data::Write { parts, iovecs, durable } => {
                *iovecs = chunk::iovecs(parts, self.done);
                let flags = if *durable { libc::RWF_DSYNC } else { 0 };
                match iovecs.as_slice() {
                    [one] => {
                        let len = one.iov_len.min(TRANSFER_MAX) as u32;
                        opcode::Write::new(fd, one.iov_base.cast(), len).offset(pos).rw_flags(flags).build()
                    }
                    many => {
                        let len = many.len() as u32;
                        opcode::Writev::new(fd, many.as_ptr(), len).offset(pos).rw_flags(flags).build()
                    }
                }
            }
            Data::Read { buffer, .. } => {
                let len = (self.len - self.done).min(TRANSFER_MAX) as u32;
                opcode::Read::new(fd, buffer.as_mut_ptr().wrapping_add(self.done), len).offset(pos).build()
            }
            Data::WriteBack => {
                let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE;
                let len = self.len.min(TRANSFER_MAX) as u32;
                opcode::SyncFileRange::new(fd, len).offset(pos).flags(flags).build()
            }
        }
    }

    /// Takes in the kernel's answer: the result of the whole operation, or None while something is left to do.
    pub fn advance(&mut self, answer: io::Result<usize>) -> Option<io::Result<()>> {
        let mut moved = match answer {
            Ok(_) if matches!(self.data, Data::WriteBack) => return Some(Ok(())),
            Ok(moved) => moved,
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => return None,
            Err(e) => return Some(Err(e)),
        };
        if self.done + moved < self.len {
            let reading = matches!(self.data, Data::Read { .. });
            let torn = self.file.is_direct() && !moved.is_multiple_of(BLOCK);
            if reading && (moved == 0 || torn) {
                self.done += moved;
                return Some(Ok(())); // the end of the file
            }
            if torn {
                moved -= moved % BLOCK; // the rest must stay aligned: that block is written again
            }
            if moved == 0 {
                return Some(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        self.done += moved;
        (self.done == self.len).then_some(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Io, OpenOptions};
    use super::*;

    /// A file for operations that are never carried out; `direct` only says how the rules treat it.
    fn file(direct: bool) -> File {
        let path = tempfile::NamedTempFile::new().unwrap();
        let file = Io::plain().open(path.path(), OpenOptions::default()).unwrap();
        if direct { file.pretend_direct() } else { file }
    }

    fn write(direct: bool, blocks: usize) -> Op {
        let mut writer = super::super::ChunkPool::new(0).take(blocks * BLOCK);
        writer.append(&vec![1; blocks * BLOCK]);
        Op::write(&file(direct), vec![writer.direct_slice(0).into()], 0, false)
    }

    fn is_done(answer: Option<io::Result<()>>) -> bool {
        matches!(answer, Some(Ok(())))
    }

    #[test]
    fn a_short_write_goes_on_with_the_rest() {
        let mut op = write(false, 1);
        assert!(op.advance(Ok(100)).is_none());
        assert!(op.advance(Ok(1)).is_none());
        assert!(is_done(op.advance(Ok(BLOCK - 101))));
    }

    #[test]
    fn a_short_direct_write_goes_on_at_a_block() {
        let mut op = write(true, 3);
        assert!(op.advance(Ok(BLOCK + 512)).is_none());
        assert_eq!(op.done, BLOCK);
        assert!(is_done(op.advance(Ok(2 * BLOCK))));
    }

    #[test]
    fn a_write_without_progress_fails() {
        for (direct, moved) in [(false, 0), (true, 0), (true, 512)] {
            let failed = write(direct, 2).advance(Ok(moved)).unwrap().unwrap_err();
            assert_eq!(failed.kind(), io::ErrorKind::WriteZero);
        }
    }

    #[test]
    fn interrupted_is_tried_again_and_an_error_ends_it() {
        let mut op = write(false, 1);
        for errno in [libc::EINTR, libc::EAGAIN] {
            assert!(op.advance(Err(io::Error::from_raw_os_error(errno))).is_none());
        }
        let failed = op.advance(Err(io::Error::from_raw_os_error(libc::ENOSPC))).unwrap().unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(libc::ENOSPC));
    }

    #[test]
    fn a_read_ends_with_the_file() {
        let mut op = Op::read(&file(false), 0, 100);
        assert!(op.advance(Ok(10)).is_none());
        assert!(is_done(op.advance(Ok(0))));
        assert_eq!(op.into_bytes().len(), 10);
    }

    #[test]
    fn a_direct_read_covers_whole_blocks_and_gives_what_was_asked() {
        let mut op = Op::read(&file(true), 4000, 200);
        assert_eq!((op.pos, op.len), (0, 2 * BLOCK));
        assert!(is_done(op.advance(Ok(2 * BLOCK))));
        assert_eq!(op.into_bytes().len(), 200);

        for (end, read) in [(4100, 100), (4000, 0), (3000, 0), (4200, 200)] {
            let mut op = Op::read(&file(true), 4000, 200);
            assert!(is_done(op.advance(Ok(end))), "an odd length is the end of the file");
            assert_eq!(op.into_bytes().len(), read);
        }
    }
}

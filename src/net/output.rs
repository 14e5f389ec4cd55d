//! Answers on their way out of one connection: in order, several with one call, files by `sendfile` from the page cache
//! or, those that are direct, in pieces that are read as the socket takes them.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes};
use ottla_storage::io::FileSlice;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;

use crate::api::{Body, Part};

/// A direct file is read piece by piece, as long as less than this is ready in front of it.
const READ_AHEAD_BYTES: usize = 1 << 20;
/// At most so much goes from a file to the socket before other connections have their turn.
const SENDFILE_BYTES: usize = 1 << 20;
/// Less than this is not sent alone while the file piece that follows it is being read.
const SMALL_BYTES: usize = 4 << 10;
const MAX_SLICES: usize = 64;
/// So much is sooner copied into one piece than sent as several.
const COPIED_BYTES: usize = 256;
/// Size, correlation id, and the empty tagged fields of a flexible header.
const HEAD_BYTES: usize = 9;

#[derive(Default)]
pub struct Output {
    parts: VecDeque<Piece>,
    bytes: usize,
    answers: usize,
    reading: Option<PieceRead>,
    warming: Option<Warming>,
}

type PieceRead = Pin<Box<dyn Future<Output = ottla_storage::Result<Bytes>>>>;

type Warming = Pin<Box<dyn Future<Output = ottla_storage::Result<()>>>>;

enum Piece {
    /// The first bytes of an answer, kept here so that they need no allocation.
    Head {
        bytes: [u8; HEAD_BYTES],
        start: u8,
        end: u8,
    },
    Bytes(Bytes),
    File(FileSlice),
}

impl Output {
    /// Queues an answer behind those before it.
    pub fn push(&mut self, correlation_id: i32, flexible_header: bool, body: Body) {
        let body_bytes: usize = body.parts.iter().map(part_bytes).sum();
        let head_bytes = if flexible_header { HEAD_BYTES } else { HEAD_BYTES - 1 };
        let size = i32::try_from(head_bytes - 4 + body_bytes).expect("an answer under 2 GiB");
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&size.to_be_bytes());
        bytes[4..8].copy_from_slice(&correlation_id.to_be_bytes());
        self.parts.push_back(Piece::Head { bytes, start: 0, end: head_bytes as u8 });
        self.parts.extend(body.parts.into_iter().filter(|part| part_bytes(part) > 0).map(|part| match part {
            Part::Bytes(bytes) => Piece::Bytes(bytes),
            Part::File(slice) => Piece::File(slice),
        }));
        self.bytes += head_bytes + body_bytes;
        self.answers += 1;
    }

    /// Bytes not yet taken by the socket.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Answers of which nothing has been sent.
    pub fn answers(&self) -> usize {
        self.answers
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Forgets everything: the client is gone.
    pub fn clear(&mut self) {
        *self = Output::default();
    }

    /// Sends what the socket takes. Ready: all is sent; the number is what was sent by this call. A file that cannot be
    /// read is an error, since the answer's size has been promised.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        loop {
            self.poll_file(cx)?;
            let now = match self.parts.front() {
                None => return Poll::Ready(Ok(())),
                Some(Piece::File(slice)) if slice.file.is_direct() => return Poll::Pending,
                Some(Piece::File(_)) => ready!(self.poll_send_file(cx, stream))?,
                Some(_) => ready!(self.poll_send_memory(cx, stream))?,
            };
            if now == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += now;
            self.advance(now);
        }
    }

    /// All that is in memory up to the next file part, with one call.
    fn poll_send_memory(&mut self, cx: &mut Context<'_>, stream: &mut TcpStream) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        let mut ready_bytes = 0;
        for part in self.parts.iter().take(MAX_SLICES) {
            let bytes = match part {
                Piece::Head { bytes, start, end } => &bytes[*start as usize..*end as usize],
                Piece::Bytes(bytes) => bytes,
                Piece::File(_) => break,
            };
            slices[count] = IoSlice::new(bytes);
            ready_bytes += bytes.len();
            count += 1;
        }
        if ready_bytes < SMALL_BYTES && self.reading.is_some() && count < MAX_SLICES {
            return Poll::Pending;
        }
        if ready_bytes <= COPIED_BYTES {
            let mut copied = [0; COPIED_BYTES];
            let mut rest = &mut copied[..];
            slices[..count].iter().for_each(|slice| rest.put_slice(slice));
            return Pin::new(stream).poll_write(cx, &copied[..ready_bytes]);
        }
        Pin::new(stream).poll_write_vectored(cx, &slices[..count])
    }

    /// From the page cache to the socket without a copy. What is not cached is waited for on another thread: the disk
    /// must not hold up the other connections of this one.
    fn poll_send_file(&mut self, cx: &mut Context<'_>, stream: &mut TcpStream) -> Poll<io::Result<usize>> {
        let Some(Piece::File(slice)) = self.parts.front() else { unreachable!("called for a file part") };
        let len = slice.len.min(SENDFILE_BYTES);
        loop {
            ready!(stream.poll_write_ready(cx))?;
            if let Some(warming) = &mut self.warming {
                ready!(warming.as_mut().poll(cx)).map_err(io::Error::other)?;
                self.warming = None;
            } else if !slice.file.is_cached(slice.pos, len) {
                let (file, pos) = (slice.file.clone(), slice.pos);
                self.warming = Some(Box::pin(async move { file.warm(pos, len).await }));
                continue;
            }
            match stream.try_io(Interest::WRITABLE, || slice.file.send_to(&*stream, slice.pos, len)) {
                Ok(0) => return Poll::Ready(Err(ends_early(slice))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Keeps one read going for the first part in a file that is direct, as long as not enough is ready in front of it.
    fn poll_file(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let mut ahead = 0;
            let mut file = None;
            for (index, part) in self.parts.iter().enumerate() {
                match part {
                    _ if ahead >= READ_AHEAD_BYTES => break,
                    Piece::Head { .. } => {}
                    Piece::Bytes(bytes) => ahead += bytes.len(),
                    Piece::File(slice) if slice.file.is_direct() => {
                        file = Some((index, slice));
                        break;
                    }
                    Piece::File(_) => break,
                }
            }
            let Some((index, slice)) = file else { return Ok(()) };
            let reading = self.reading.get_or_insert_with(|| {
                let (file, pos, len) = (slice.file.clone(), slice.pos, slice.file.piece(slice.pos, slice.len));
                Box::pin(async move { file.read_at(pos, len).await })
            });
            let Poll::Ready(piece) = reading.as_mut().poll(cx) else { return Ok(()) };
            self.reading = None;
            self.insert(index, piece.map_err(io::Error::other)?)?;
        }
    }

    /// Puts a piece that was read in front of what is left of its file part.
    fn insert(&mut self, index: usize, mut piece: Bytes) -> io::Result<()> {
        let Some(Piece::File(slice)) = self.parts.get_mut(index) else { unreachable!("a read is of a file part") };
        piece.truncate(slice.len);
        if piece.is_empty() {
            return Err(ends_early(slice));
        }
        slice.pos += piece.len() as u64;
        slice.len -= piece.len();
        if slice.len == 0 {
            self.parts[index] = Piece::Bytes(piece);
        } else {
            self.parts.insert(index, Piece::Bytes(piece));
        }
        Ok(())
    }

    fn advance(&mut self, mut sent: usize) {
        self.bytes -= sent;
        while sent > 0 {
            let front = self.parts.front_mut().expect("what was sent is queued");
            let len = match front {
                Piece::Head { start, end, .. } => (*end - *start) as usize,
                Piece::Bytes(bytes) => bytes.len(),
                Piece::File(slice) => slice.len,
            };
            if sent >= len {
                self.answers -= usize::from(matches!(front, Piece::Head { .. }));
                self.parts.pop_front();
                sent -= len;
                continue;
            }
            match front {
                Piece::Head { start, .. } => *start += sent as u8,
                Piece::Bytes(bytes) => bytes.advance(sent),
                Piece::File(slice) => {
                    slice.pos += sent as u64;
                    slice.len -= sent;
                }
            }
            return;
        }
    }

    /// Gives the queue's memory back if nothing is in it.
    pub fn release(&mut self) {
        if self.parts.is_empty() {
            self.parts = VecDeque::new();
        }
    }
}

fn ends_early(slice: &FileSlice) -> io::Error {
    let path = slice.file.path().display();
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("{path} ends before {}", slice.pos))
}

fn part_bytes(part: &Part) -> usize {
    match part {
        Part::Bytes(bytes) => bytes.len(),
        Part::File(slice) => slice.len,
    }
}

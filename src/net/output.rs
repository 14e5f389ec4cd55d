//! Answers on their way out of one connection: in order, several in one `writev`, file pieces read as the socket takes
//! them.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use ottla_storage::io::FileSlice;
use tokio::io::AsyncWrite;

use crate::api::{Body, Part};

/// A file is read in pieces of this size, one ahead of the piece that is being sent.
const FILE_PIECE_BYTES: usize = 1 << 20;
/// Less than this is not sent alone while the file piece that follows it is being read.
const SMALL_BYTES: usize = 4 << 10;
const MAX_SLICES: usize = 64;
/// Size, correlation id, and the empty tagged fields of a flexible header.
const HEAD_BYTES: usize = 9;

#[derive(Default)]
pub struct Output {
    parts: VecDeque<Piece>,
    bytes: usize,
    answers: usize,
    reading: Option<PieceRead>,
}

type PieceRead = Pin<Box<dyn Future<Output = ottla_storage::Result<Bytes>>>>;

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
        mut stream: Pin<&mut (impl AsyncWrite + ?Sized)>,
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        loop {
            self.poll_file(cx)?;
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
            if self.parts.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if count == 0 || (ready_bytes < SMALL_BYTES && self.reading.is_some() && count < MAX_SLICES) {
                return Poll::Pending;
            }
            let written = ready!(stream.as_mut().poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += written;
            self.advance(written);
        }
    }

    /// Keeps one read going for the first file part, as long as not enough is ready in front of it.
    fn poll_file(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let mut ahead = 0;
            let mut file = None;
            for (index, part) in self.parts.iter().enumerate() {
                match part {
                    _ if ahead >= FILE_PIECE_BYTES => break,
                    Piece::Head { .. } => {}
                    Piece::Bytes(bytes) => ahead += bytes.len(),
                    Piece::File(slice) => {
                        file = Some((index, slice));
                        break;
                    }
                }
            }
            let Some((index, slice)) = file else { return Ok(()) };
            let reading = self.reading.get_or_insert_with(|| {
                let (file, pos, len) = (slice.file.clone(), slice.pos, slice.len.min(FILE_PIECE_BYTES));
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
            let path = slice.file.path().display();
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{path} ends before {}", slice.pos)));
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
                Piece::File(_) => unreachable!("file parts are sent as bytes"),
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
                Piece::File(_) => unreachable!("file parts are sent as bytes"),
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

fn part_bytes(part: &Part) -> usize {
    match part {
        Part::Bytes(bytes) => bytes.len(),
        Part::File(slice) => slice.len,
    }
}

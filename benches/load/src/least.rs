//! The least that produce can cost through the page cache: a program that receives frames, takes their checksums, writes
//! them to files as Ottla does and answers. It is no broker: one thread, no requests, no batches, no offsets, nobody to
//! wait for. What a broker takes beyond it is the broker's own.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context, Result};
use clap::Args;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::pwritev;
use rustix::net::sockopt::set_tcp_congestion;

use crate::broker::{Programs, sync_disk};
use crate::load::{self, Outcome, ProduceLoad, Target};

/// Received together from a connection: some 64 KiB batches, and no more than stays in a core's cache.
const BUFFER_BYTES: usize = 256 << 10;
/// These three as in Ottla: space is reserved so far ahead, a write is filled up with zeros to a multiple of this, so that
/// the kernel makes larger pages, and so much is sent to the disk at a time.
const RESERVE_BYTES: u64 = 16 << 20;
const FILL_BYTES: u64 = 32 << 10;
const WRITE_BACK_BYTES: u64 = 2 << 20;

static ZEROS: [u8; FILL_BYTES as usize] = [0; FILL_BYTES as usize];

/// Runs the program, for as many connections as are opened once.
#[derive(Args)]
pub struct Options {
    dir: PathBuf,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    logs: usize,
}

/// Produces to the program, in a process of its own, and measures that.
pub fn produce(programs: &Programs, load: ProduceLoad, partitions: i32, connections: usize) -> Result<Outcome> {
    let dir = programs.home()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("least").arg(dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.args(["--connections", &connections.to_string(), "--logs", &partitions.to_string()]);
    let mut child = command.spawn()?;
    let outcome = (|| {
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("it has an output")?).read_line(&mut line)?;
        let address: SocketAddr = line.trim().parse().with_context(|| format!("{line:?} is no address"))?;
        load::produce(&Target { address, pid: Some(child.id()), topic: "least", partitions, connections }, load)
    })();
    child.kill()?;
    child.wait()?;
    dir.close()?;
    sync_disk(&programs.data)?;
    outcome
}

/// Prints its address, serves until all connections are closed, and stays to be measured until its input is.
pub fn serve(options: &Options) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let (written, to_write_back) = channel();
    let mut logs = Vec::new();
    for nth in 0..options.logs {
        logs.push(Log::create(&options.dir.join(format!("{nth}.log")), written.clone())?);
    }
    thread::spawn(move || write_back(&to_write_back));
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::new();
    for nth in 0..options.connections {
        let connection = Connection::new(listener.accept()?.0, nth)?;
        epoll::add(&poll, &connection.stream, epoll::EventData::new_u64(nth as u64), epoll::EventFlags::IN)?;
        connections.push(connection);
    }
    let mut open = connections.len();
    let mut events: Vec<epoll::Event> = Vec::with_capacity(options.connections);
    while open > 0 {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in &events {
            let connection = &mut connections[event.data.u64() as usize];
            if !connection.receive()? {
                epoll::delete(&poll, &connection.stream)?;
                open -= 1;
            }
        }
        // What came in one turn for one log is one write.
        let frames: Vec<Vec<&[u8]>> = connections.iter().map(Connection::frames).collect();
        for (nth, log) in logs.iter_mut().enumerate() {
            let own = connections.iter().zip(&frames).flat_map(|(connection, frames)| {
                frames.iter().enumerate().filter(move |(i, _)| (connection.first + i) % options.logs == nth)
            });
            log.write(own.map(|(_, frame)| IoSlice::new(frame)).collect())?;
        }
        let answered: Vec<Answered> = frames.iter().map(|frames| Answered::of(frames)).collect();
        for (connection, answered) in connections.iter_mut().zip(answered) {
            connection.answer(&answered)?;
        }
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    /// The log of the next frame: they come for one after another, as the generator sends them.
    first: usize,
}

/// What frames come to.
struct Answered {
    frames: usize,
    bytes: usize,
    answers: Vec<u8>,
}

impl Answered {
    fn of(frames: &[&[u8]]) -> Answered {
        let bytes = frames.iter().map(|frame| frame.len()).sum();
        Answered { frames: frames.len(), bytes, answers: frames.iter().flat_map(|frame| answer(frame)).collect() }
    }
}

impl Connection {
    fn new(stream: TcpStream, nth: usize) -> Result<Connection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        set_tcp_congestion(&stream, "reno")?; // as Ottla's within a machine
        Ok(Connection { stream, buffer: vec![0; BUFFER_BYTES], filled: 0, first: nth })
    }

    /// What is there, as far as there is room; false at the end of the stream.
    fn receive(&mut self) -> Result<bool> {
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => return Ok(false),
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// The whole frames that are there, with their lengths in front, checked.
    fn frames(&self) -> Vec<&[u8]> {
        let mut frames = Vec::new();
        let mut rest = &self.buffer[..self.filled];
        while let Some(length) = rest.first_chunk() {
            let Some((frame, after)) = rest.split_at_checked(4 + u32::from_be_bytes(*length) as usize) else { break };
            std::hint::black_box(crc32c::crc32c(frame));
            frames.push(frame);
            rest = after;
        }
        frames
    }

    /// Its first frames are dealt with.
    fn answer(&mut self, &Answered { frames, bytes, ref answers }: &Answered) -> Result<()> {
        // A few hundred bytes always find room.
        self.stream.write_all(answers)?;
        self.first += frames;
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
        Ok(())
    }
}

/// To the Produce v9 in a frame: partition 0 of topic `least` took the batch at offset 0.
fn answer(frame: &[u8]) -> Vec<u8> {
    let correlation_id = &frame[8..12]; // behind the length, the API key and the version
    let mut body = vec![0, 2, 6];
    body.extend(b"least");
    body.push(2);
    body.extend([0; 4 + 2 + 8]); // partition, error, base offset
    body.extend((-1i64).to_be_bytes()); // no log append time
    body.extend([0; 8]); // log start offset
    body.extend([1, 0, 0, 0]); // no record errors, no message; partition's and topic's tagged fields
    body.extend([0; 4 + 1]); // throttle time
    let length = (4 + body.len() as u32).to_be_bytes();
    [&length[..], correlation_id, &body].concat()
}

/// A file, and what of it is written.
type Written = (File, std::ops::Range<u64>);

struct Log {
    file: File,
    end: u64,
    reserved: u64,
    written_back: u64,
    written: Sender<Written>,
}

impl Log {
    fn create(path: &Path, written: Sender<Written>) -> Result<Log> {
        Ok(Log { file: File::create_new(path)?, end: 0, reserved: 0, written_back: 0, written })
    }

    fn write(&mut self, mut parts: Vec<IoSlice>) -> Result<()> {
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if bytes == 0 {
            return Ok(());
        }
        let end = self.end + bytes;
        let filled = end.next_multiple_of(FILL_BYTES);
        if filled > self.reserved {
            self.reserved += RESERVE_BYTES;
            fallocate(&self.file, FallocateFlags::empty(), 0, self.reserved)?;
        }
        parts.push(IoSlice::new(&ZEROS[..(filled - end) as usize]));
        let moved = pwritev(&self.file, &parts, self.end)?;
        anyhow::ensure!(moved as u64 == filled - self.end, "a short write");
        self.end = end;
        if end - self.written_back >= WRITE_BACK_BYTES {
            self.written.send((self.file.try_clone()?, self.written_back..end))?;
            self.written_back = end;
        }
        Ok(())
    }
}

/// Sends to the disk what is written.
fn write_back(pieces: &Receiver<Written>) {
    while let Ok((file, piece)) = pieces.recv() {
        // The kernel begins to write what is asked to leave the page cache, and keeps it until then. A hint: it cannot fail.
        let _ = fadvise(file, piece.start, std::num::NonZeroU64::new(piece.end - piece.start), Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn the_generator_takes_its_answers() {
        let mut request = wire::produce("least", 0, &[]);
        request.set_correlation_id(7);
        let frame = answer(request.bytes());
        assert_eq!(u32::from_be_bytes(*frame.first_chunk().unwrap()) as usize, frame.len() - 4);
        assert_eq!(frame[4..8], 7i32.to_be_bytes());
        assert_eq!(wire::produced_offset(&frame[4..]).unwrap(), 0);
    }
}

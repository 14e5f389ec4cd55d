//! One blocking connection to a broker: frames out, length-prefixed responses in, and the few calls to set a topic up.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::wire::{self, Frame};

/// A broker silent for so long is broken.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a new topic may take until all its partitions are led.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

pub struct Connection {
    stream: TcpStream,
    /// Reused from response to response, so that reading costs no more than the copy out of the socket.
    buffer: Vec<u8>,
    /// Received and not yet handed out.
    start: usize,
    end: usize,
    /// Requests to be sent together.
    collected: Vec<u8>,
    next_correlation_id: i32,
    awaited_correlation_id: i32,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        let buffer = vec![0; 64 << 10];
        let collected = Vec::new();
        Ok(Self { stream, buffer, start: 0, end: 0, collected, next_correlation_id: 0, awaited_correlation_id: 0 })
    }

    /// To wait for several at once.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// The next request's number goes into its frame.
    fn number(&mut self, frame: &mut Frame) {
        frame.set_correlation_id(self.next_correlation_id);
        self.next_correlation_id = self.next_correlation_id.wrapping_add(1);
    }

    pub fn send(&mut self, frame: &mut Frame) -> Result<()> {
        self.number(frame);
        self.stream.write_all(frame.bytes()).context("sending a request")
    }

    /// Puts a request with the others that [`Connection::send_collected`] sends with one write.
    pub fn collect(&mut self, frame: &mut Frame) {
        self.number(frame);
        self.collected.extend_from_slice(frame.bytes());
    }

    pub fn send_collected(&mut self) -> Result<()> {
        self.stream.write_all(&self.collected).context("sending requests")?;
        self.collected.clear();
        Ok(())
    }

    /// The next response, without its length. Several that arrived together cost one read.
    pub fn receive(&mut self) -> Result<&[u8]> {
        self.fill(4)?;
        let length = i32::from_be_bytes(self.buffer[self.start..self.start + 4].try_into()?);
        let length = usize::try_from(length).context("a response with a negative length")?;
        self.fill(4 + length)?;
        let response = &self.buffer[self.start + 4..self.start + 4 + length];
        self.start += 4 + length;
        let correlation_id = i32::from_be_bytes(*response.first_chunk().context("a response without a header")?);
        ensure!(correlation_id == self.awaited_correlation_id, "responses are out of order");
        self.awaited_correlation_id = self.awaited_correlation_id.wrapping_add(1);
        Ok(response)
    }

    pub fn call(&mut self, mut frame: Frame) -> Result<&[u8]> {
        self.send(&mut frame)?;
        self.receive()
    }

    /// Reads until `bytes` are at hand.
    fn fill(&mut self, bytes: usize) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.start + bytes > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.buffer.resize(self.buffer.len().max(bytes), 0);
        }
        while self.end - self.start < bytes {
            let read = self.stream.read(&mut self.buffer[self.end..]).context("waiting for a response")?;
            ensure!(read > 0, "the broker closed the connection");
            self.end += read;
        }
        Ok(())
    }

    /// Creates the topic and returns once every partition has a leader.
    pub fn create_topic(&mut self, topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        let response = self.call(wire::create_topic(topic, partitions, configs))?;
        wire::topic_outcome(response).with_context(|| format!("creating topic {topic}"))?;
        self.await_leaders(topic, partitions)
    }

    /// Returns once every partition has a leader.
    pub fn await_leaders(&mut self, topic: &str, partitions: i32) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while let Err(error) = self.end_offsets(topic, partitions) {
            if Instant::now() > deadline {
                return Err(error.context(format!("topic {topic} does not become ready")));
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub fn delete_topic(&mut self, topic: &str) -> Result<()> {
        wire::topic_outcome(self.call(wire::delete_topic(topic))?).with_context(|| format!("deleting topic {topic}"))
    }

    pub fn set_topic_config(&mut self, topic: &str, name: &str, value: &str) -> Result<()> {
        let response = self.call(wire::set_topic_config(topic, name, value))?;
        wire::config_outcome(response).with_context(|| format!("setting {name}={value} of topic {topic}"))
    }

    /// The end offset of each partition.
    pub fn end_offsets(&mut self, topic: &str, partitions: i32) -> Result<Vec<i64>> {
        let offsets = wire::end_offsets(self.call(wire::list_end_offsets(topic, partitions))?)?;
        if offsets.len() != partitions as usize {
            bail!("asked for the offsets of {partitions} partitions, got {}", offsets.len());
        }
        Ok(offsets)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that answers with these bytes, in pieces of the given size.
    fn connected_to(answer: Vec<u8>, piece_bytes: usize) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            answer.chunks(piece_bytes).for_each(|piece| stream.write_all(piece).unwrap());
        });
        Connection::open(address).unwrap()
    }

    fn response(correlation_id: i32, body_bytes: usize) -> Vec<u8> {
        let mut bytes = (body_bytes as i32 + 4).to_be_bytes().to_vec();
        bytes.extend(correlation_id.to_be_bytes());
        bytes.resize(bytes.len() + body_bytes, correlation_id as u8);
        bytes
    }

    #[test]
    fn responses_come_out_whole_however_they_arrive() {
        let sizes = [0, 3, 100_000, 1, 200_000];
        let answer: Vec<u8> = (0..).zip(sizes).flat_map(|(id, size)| response(id, size)).collect();
        for piece_bytes in [777, 70_000, 1 << 20] {
            let mut connection = connected_to(answer.clone(), piece_bytes);
            for (id, size) in (0..).zip(sizes) {
                assert_eq!(connection.receive().unwrap(), &response(id, size)[4..]);
            }
            assert!(connection.receive().is_err(), "the end of the stream");
        }
    }

    #[test]
    fn a_response_to_another_request_is_an_error() {
        assert!(connected_to(response(1, 0), 100).receive().is_err());
    }
}

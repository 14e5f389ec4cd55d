//! One connection: frames in, handlers started in order, answers out in order. A state machine polled by its task, so
//! that a request costs one receive and one send, and an idle connection next to nothing.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::idle::IdleTimer;
use super::memory::{MemoryGrant, RequestMemory};
use super::output::Output;
use crate::api::{Peer, Reply, ReplyFuture, Started};
use crate::protocol::frame::FrameBuffer;

/// Requests of one connection that may run at a time, and the bytes of their frames (one request always may).
const MAX_IN_FLIGHT: usize = 32;
const MAX_IN_FLIGHT_BYTES: usize = 8 << 20;
/// A client that does not take its answers is not read from while so much waits for it.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
const MAX_OUTPUT_ANSWERS: usize = 100;

/// Recognises the request in a frame, see [`crate::api::dispatch`].
pub trait Dispatch: Fn(&Peer, Bytes) -> Result<Started, String> + Clone + 'static {}
impl<F: Fn(&Peer, Bytes) -> Result<Started, String> + Clone + 'static> Dispatch for F {}

/// What all connections have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `socket.request.max.bytes`
    pub max_request_bytes: usize,
    /// `connections.max.idle.ms`
    pub max_idle: Duration,
    pub memory: Arc<RequestMemory>,
}

/// Why a connection came to its end.
#[derive(Debug)]
pub enum End {
    /// The client closed it, or cannot be reached any more.
    Client(Option<io::Error>),
    Idle,
    /// What the client sent has no answer; the reason.
    Refused(String),
    Stopping,
    /// Another worker is to serve it from here on: see [`Connection::into_parts`].
    Elsewhere,
}

/// What is left of a connection between two requests.
#[derive(Debug)]
pub struct Parts {
    pub stream: TcpStream,
    pub received: Received,
}

/// What has arrived and is not a request yet.
#[derive(Debug)]
pub struct Received {
    frames: FrameBuffer,
    /// Memory for the frame that is being received.
    grant: Option<MemoryGrant>,
}

impl Received {
    pub fn nothing(settings: &Settings) -> Received {
        Received { frames: FrameBuffer::new(settings.max_request_bytes), grant: None }
    }
}

/// What a worker asks of a connection whenever it comes to its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Serve,
    /// To end as soon as no request is in flight, since it belongs to another worker.
    Leave,
    /// To end, since the broker stops.
    Stop,
}

pub struct Connection<D> {
    stream: TcpStream,
    peer: Peer,
    dispatch: D,
    memory: Arc<RequestMemory>,
    received: Received,
    in_flight: VecDeque<Request>,
    in_flight_bytes: usize,
    /// Not started: it runs alone, and others are in flight.
    held: Option<Request>,
    output: Output,
    /// Set: nothing more is received, and the connection ends when what it asked for has been answered.
    end: Option<End>,
    /// The client is gone: answers have nowhere to go, but what it asked for is still finished.
    gone: bool,
    /// No request is started: it leaves when the last one has been answered.
    leaving: bool,
    idle: IdleTimer,
    /// Something was received or sent since the idle timer looked.
    active: bool,
}

struct Request {
    correlation_id: i32,
    flexible_header: bool,
    pipelined: bool,
    long_poll: bool,
    grant: MemoryGrant,
    progress: Progress,
}

enum Progress {
    Running(ReplyFuture),
    /// Answered, but not its turn yet.
    Done(Reply),
}

impl<D: Dispatch> Connection<D> {
    pub fn new(parts: Parts, peer: Peer, dispatch: D, settings: &Settings) -> Connection<D> {
        let Parts { stream, received } = parts;
        Connection {
            stream,
            peer,
            dispatch,
            memory: settings.memory.clone(),
            received,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            held: None,
            output: Output::default(),
            end: None,
            gone: false,
            leaving: false,
            idle: IdleTimer::new(settings.max_idle),
            active: true,
        }
    }

    /// Serves until the end. Whoever changes the wish wakes the task, or lets it come to its turn.
    pub fn poll(&mut self, cx: &mut Context<'_>, wish: Wish) -> Poll<End> {
        self.leaving = wish == Wish::Leave;
        if wish == Wish::Stop && self.end.is_none() {
            self.end = Some(End::Stopping);
            self.held = None;
        }
        self.serve(cx)
    }

    /// Of one that ended with [`End::Elsewhere`].
    pub fn into_parts(self) -> Parts {
        Parts { stream: self.stream, received: self.received }
    }

    fn serve(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.run_requests(cx);
        loop {
            let has_memory = self.start_requests(cx).is_ready();
            self.send(cx);
            if self.is_over() {
                return Poll::Ready(self.end.take().expect("over means that there is an end"));
            }
            // What was sent has made room for the next answer.
            if has_memory && self.received.frames.is_whole() && self.may_start() {
                continue;
            }
            if !self.wants_input() || self.receive(cx).is_pending() {
                break;
            }
        }
        if self.in_flight.is_empty() && self.output.is_empty() {
            // Nothing is held where nothing is in flight.
            if self.leaving && self.end.is_none() {
                return Poll::Ready(End::Elsewhere);
            }
            self.release();
        }
        self.idle.poll(cx, &mut self.active).map(|()| End::Idle)
    }

    /// Polls what is in flight, and queues the answers whose turn it is.
    fn run_requests(&mut self, cx: &mut Context<'_>) {
        for request in &mut self.in_flight {
            request.poll(cx);
        }
        while let Some(Request { progress: Progress::Done(_), .. }) = self.in_flight.front() {
            let request = self.in_flight.pop_front().expect("just seen");
            self.in_flight_bytes -= request.grant.bytes;
            self.answer(request);
        }
        if self.in_flight.is_empty()
            && let Some(request) = self.held.take()
        {
            self.start(request, cx);
        }
    }

    /// Starts the requests that have arrived, as far as order and bounds allow. Pending: the next waits for memory.
    fn start_requests(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.may_start()
            && self.received.frames.is_whole()
            && let Ok(Some(size)) = self.received.frames.announced()
        {
            let Some(grant) = self.received.grant.take().or_else(|| self.memory.take(size, cx)) else {
                return Poll::Pending;
            };
            let Ok(Some(frame)) = self.received.frames.take_frame() else { break };
            match (self.dispatch)(&self.peer, frame) {
                Ok(started) => {
                    let request = Request::new(started, grant);
                    if request.pipelined || self.in_flight.is_empty() {
                        self.start(request, cx);
                    } else {
                        self.held = Some(request);
                    }
                }
                Err(reason) => self.refuse(reason),
            }
        }
        Poll::Ready(())
    }

    /// The next request may start: it would not overlap with one that runs alone, and the bounds are kept.
    fn may_start(&self) -> bool {
        matches!(self.end, None | Some(End::Client(_)))
            && !self.leaving
            && self.held.is_none()
            && self.in_flight.back().is_none_or(|request| request.pipelined)
            && self.in_flight.len() < MAX_IN_FLIGHT
            && (self.in_flight_bytes < MAX_IN_FLIGHT_BYTES)
            && self.output.bytes() < MAX_OUTPUT_BYTES
            && self.output.answers() < MAX_OUTPUT_ANSWERS
    }

    /// First poll at once: most requests are answered by it, and never queued.
    fn start(&mut self, mut request: Request, cx: &mut Context<'_>) {
        request.poll(cx);
        if self.in_flight.is_empty() && matches!(request.progress, Progress::Done(_)) {
            self.answer(request);
        } else {
            self.in_flight_bytes += request.grant.bytes;
            self.in_flight.push_back(request);
        }
    }

    fn answer(&mut self, request: Request) {
        match request.progress {
            Progress::Done(Reply::Body(body)) if !self.gone => {
                self.output.push(request.correlation_id, request.flexible_header, body);
            }
            Progress::Done(Reply::Close(reason)) => {
                self.in_flight.clear();
                self.in_flight_bytes = 0;
                self.refuse(reason);
            }
            Progress::Done(Reply::Body(_) | Reply::None) => {}
            Progress::Running(_) => unreachable!("only finished requests are answered"),
        }
    }

    fn refuse(&mut self, reason: String) {
        self.held = None;
        self.end = Some(End::Refused(reason));
    }

    fn send(&mut self, cx: &mut Context<'_>) {
        let mut sent = 0;
        let result = self.output.poll_send(cx, &mut self.stream, &mut sent);
        self.active |= sent > 0;
        if let Poll::Ready(Err(error)) = result {
            self.lose(error);
        }
    }

    fn lose(&mut self, error: io::Error) {
        self.gone = true;
        self.output.clear();
        self.end.get_or_insert(End::Client(Some(error)));
    }

    fn wants_input(&self) -> bool {
        self.end.is_none() && !self.received.frames.is_whole() && self.may_start()
    }

    /// One receive. Waits for readiness first, so that a connection without traffic needs no buffer.
    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.try_receive(cx)) {
            Ok(0) => self.end = Some(End::Client(None)),
            Ok(_) => self.active = true,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => self.refuse(error.to_string()),
            Err(error) => self.lose(error),
        }
        Poll::Ready(())
    }

    /// Memory is asked for as soon as a frame's size is known, then readiness waited for.
    fn try_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        if self.received.grant.is_none()
            && let Some(size) = self.received.frames.announced().map_err(invalid)?
        {
            match self.memory.take(size, cx) {
                Some(grant) => self.received.grant = Some(grant),
                None => return Poll::Pending,
            }
        }
        ready!(self.stream.poll_read_ready(cx))?;
        let mut room = self.received.frames.for_reading().map_err(invalid)?;
        pin!(self.stream.read_buf(&mut room)).poll(cx)
    }

    /// A stopping broker does not wait for requests that only wait themselves.
    fn is_over(&self) -> bool {
        let answered = match &self.end {
            None => false,
            Some(End::Client(_)) => self.in_flight.is_empty() && !self.received.frames.is_whole(),
            Some(End::Stopping) => self.in_flight.iter().all(|request| request.long_poll),
            Some(_) => self.in_flight.is_empty(),
        };
        answered && self.held.is_none() && self.output.is_empty()
    }

    /// Between requests a connection holds no buffers: taking new ones costs next to nothing, and thousands that each
    /// kept theirs would.
    fn release(&mut self) {
        self.received.frames.release();
        self.output.release();
        self.in_flight = VecDeque::new();
    }
}

impl Request {
    fn new(started: Started, grant: MemoryGrant) -> Request {
        Request {
            correlation_id: started.correlation_id,
            flexible_header: started.flexible_header,
            pipelined: started.pipelined,
            long_poll: started.long_poll,
            grant,
            progress: Progress::Running(started.reply),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Progress::Running(reply) = &mut self.progress
            && let Poll::Ready(reply) = reply.as_mut().poll(cx)
        {
            self.progress = Progress::Done(reply);
        }
    }
}

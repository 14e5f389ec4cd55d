//! A bare connection: one request, one answer, at the version asked for.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

pub struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    pub fn open(bootstrap: &str) -> Connection {
        Connection::try_open(bootstrap).unwrap()
    }

    pub fn try_open(bootstrap: &str) -> io::Result<Connection> {
        let stream = TcpStream::connect(bootstrap)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, correlation_id: 0 })
    }

    /// Sends the request and waits for its answer.
    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(request, version);
        self.receive::<R>(version).expect("an answer, not a closed connection")
    }

    /// The same with a broker that may go away.
    pub fn try_call<R: Request>(&mut self, request: &R, version: i16) -> io::Result<R::Response> {
        self.try_send(request, version)?;
        self.receive::<R>(version).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    pub fn send<R: Request>(&mut self, request: &R, version: i16) {
        self.try_send(request, version).unwrap();
    }

    fn try_send<R: Request>(&mut self, request: &R, version: i16) -> io::Result<()> {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("compat")));
        let mut frame = BytesMut::from(&[0; 4][..]);
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        let length = frame.len() as u32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame)
    }

    /// The answer to the last request, or None when the broker closes the connection instead.
    pub fn receive<R: Request>(&mut self, version: i16) -> Option<R::Response> {
        let mut length = [0; 4];
        if self.stream.read_exact(&mut length).is_err() {
            return None;
        }
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).ok()?;
        let mut frame = Bytes::from(frame);
        let header_version = R::Response::header_version(version);
        let header = ResponseHeader::decode(&mut frame, header_version).unwrap();
        assert_eq!(header.correlation_id, self.correlation_id);
        let response = R::Response::decode(&mut frame, version).unwrap();
        let key = ApiKey::try_from(R::KEY).expect("a known key");
        assert!(frame.is_empty(), "{} bytes follow the answer to {key:?} {version}", frame.len());
        Some(response)
    }
}

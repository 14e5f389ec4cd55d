//! The request header: read in place, without allocating, before anything else is known of a request.

use bytes::{Buf, Bytes};
use kafka_protocol::protocol::StrBytes;

use super::guard;

/// Key and version, which every header version begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek {
    pub api_key: i16,
    pub api_version: i16,
}

/// The rest of a header, versions 1 and 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub correlation_id: i32,
    pub client_id: Option<StrBytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("a frame of {0} bytes is too short for a request header")]
    TooShort(usize),
    #[error("client id: {0}")]
    ClientId(&'static str),
    #[error(transparent)]
    TaggedFields(#[from] guard::GuardError),
}

/// The first four bytes of a frame.
pub fn peek(frame: &[u8]) -> Result<Peek, HeaderError> {
    let &[k0, k1, v0, v1, ..] = frame else { return Err(HeaderError::TooShort(frame.len())) };
    Ok(Peek { api_key: i16::from_be_bytes([k0, k1]), api_version: i16::from_be_bytes([v0, v1]) })
}

/// Takes the header off `frame`, so that the body is left. `flexible`: header version 2, with tagged fields; the client
/// id has a two byte length in both.
pub fn take(frame: &mut Bytes, flexible: bool) -> Result<Header, HeaderError> {
    if frame.len() < 10 {
        return Err(HeaderError::TooShort(frame.len()));
    }
    frame.advance(4);
    let correlation_id = frame.get_i32();
    let client_id = match frame.get_i16() {
        -1 => None,
        len if len < -1 => return Err(HeaderError::ClientId("negative length")),
        len if len as usize > frame.len() => return Err(HeaderError::ClientId("longer than the frame")),
        len => {
            let text = StrBytes::try_from(frame.split_to(len as usize));
            Some(text.map_err(|_| HeaderError::ClientId("not UTF-8"))?)
        }
    };
    if flexible {
        let skipped = guard::skip_tagged_fields(frame)?;
        frame.advance(skipped);
    }
    Ok(Header { correlation_id, client_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(client_id: &[u8], rest: &[u8]) -> Bytes {
        let mut frame = vec![0, 18, 0, 3, 0, 0, 0, 7];
        frame.extend_from_slice(client_id);
        frame.extend_from_slice(rest);
        frame.into()
    }

    #[test]
    fn leaves_the_body() {
        let mut v1 = frame(b"\0\x02me", b"body");
        assert_eq!(peek(&v1), Ok(Peek { api_key: 18, api_version: 3 }));
        let header = take(&mut v1, false).unwrap();
        assert_eq!((header.correlation_id, header.client_id.as_deref()), (7, Some("me")));
        assert_eq!(&v1[..], b"body");

        let mut v2 = frame(b"\xff\xff", b"\x01\x05\x02abbody");
        assert_eq!(take(&mut v2, true).unwrap().client_id, None);
        assert_eq!(&v2[..], b"body");
    }

    #[test]
    fn refuses_what_is_not_whole() {
        assert_eq!(peek(&[0, 1, 2]), Err(HeaderError::TooShort(3)));
        assert_eq!(take(&mut frame(b"\0", b""), false), Err(HeaderError::TooShort(9)));
        assert!(matches!(take(&mut frame(b"\0\x03me", b""), false), Err(HeaderError::ClientId(_))));
        assert!(matches!(take(&mut frame(b"\xff\xfe", b""), false), Err(HeaderError::ClientId(_))));
        assert!(matches!(take(&mut frame(b"\0\x01\xff", b""), false), Err(HeaderError::ClientId(_))));
        assert!(matches!(take(&mut frame(b"\xff\xff", b""), true), Err(HeaderError::TaggedFields(_))));
        assert!(matches!(
            take(&mut frame(b"\xff\xff", b"\xff\xff\xff\xff\x0f"), true),
            Err(HeaderError::TaggedFields(_))
        ));
    }
}

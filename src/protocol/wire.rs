//! Kafka's primitive types, read from a borrowed frame without copying and written into one buffer.
//! For the Produce and Fetch fast path, versions that kafka-protocol lacks, and the group coordinator's records; every
//! other message goes through kafka-protocol.

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

/// A request body that is not what its schema allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed request: {0}")]
pub struct Malformed(pub &'static str);

pub type Result<T> = std::result::Result<T, Malformed>;

/// The most topics and partitions that one request may name.
const MAX_ELEMENTS: usize = 1_000_000;

/// A topic as a request names it: by name, or by id from the versions on that know ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicRef<'a> {
    Name(&'a str),
    Id(Uuid),
}

/// Walks a frame. Nothing is allocated, and no length from the wire is believed before it is compared with what is left.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    buf: &'a [u8],
    flexible: bool,
    elements: usize,
}

impl<'a> Reader<'a> {
    pub fn new(buf: &'a [u8], flexible: bool) -> Reader<'a> {
        Reader { buf, flexible, elements: 0 }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.buf.split_at_checked(len).ok_or(Malformed("a field reaches beyond the frame"))?;
        self.buf = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.buf.split_first_chunk().ok_or(Malformed("the frame ends within a field"))?;
        self.buf = rest;
        Ok(*taken)
    }

    pub fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    fn unsigned_varint(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for shift in (0..32).step_by(7) {
            let byte = self.array::<1>()?[0];
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a varint is longer than 32 bits"))
    }

    /// A length in the request's style; None for null.
    fn length(&mut self, classic: impl Fn(&mut Self) -> Result<i32>) -> Result<Option<usize>> {
        if self.flexible {
            return Ok(self.unsigned_varint()?.checked_sub(1).map(|len| len as usize));
        }
        match classic(self)? {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| Malformed("a length is negative")),
        }
    }

    pub fn nullable_string(&mut self) -> Result<Option<&'a str>> {
        let Some(len) = self.length(|r| r.i16().map(i32::from))? else { return Ok(None) };
        std::str::from_utf8(self.take(len)?).map(Some).map_err(|_| Malformed("a string is not UTF-8"))
    }

    pub fn string(&mut self) -> Result<&'a str> {
        self.nullable_string()?.ok_or(Malformed("a string is null"))
    }

    pub fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>> {
        match self.length(Self::i32)? {
            Some(len) => self.take(len).map(Some),
            None => Ok(None),
        }
    }

    /// An array's element count: never more than the bytes that are left, since every element takes at least one.
    pub fn array_len(&mut self) -> Result<usize> {
        self.nullable_array_len()?.ok_or(Malformed("an array is null"))
    }

    pub fn nullable_array_len(&mut self) -> Result<Option<usize>> {
        let Some(len) = self.length(Self::i32)? else { return Ok(None) };
        if len > self.buf.len() {
            return Err(Malformed("an array is longer than the frame"));
        }
        self.elements += len;
        if self.elements > MAX_ELEMENTS {
            return Err(Malformed("more than 1,000,000 topics and partitions"));
        }
        Ok(Some(len))
    }

    /// Visits the tagged fields that close a structure; nothing in classic versions.
    pub fn tagged_fields(&mut self, mut visit: impl FnMut(u32, Reader<'a>) -> Result<()>) -> Result<()> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let len = self.unsigned_varint()? as usize;
            visit(tag, Reader::new(self.take(len)?, true))?;
        }
        Ok(())
    }

    pub fn skip_tagged_fields(&mut self) -> Result<()> {
        self.tagged_fields(|_, _| Ok(()))
    }
}

/// Writes an answer's fields in the classic or the flexible style.
#[derive(Debug)]
pub struct Writer<B = BytesMut> {
    pub buf: B,
    flexible: bool,
}

impl Writer {
    pub fn new(capacity: usize, flexible: bool) -> Writer {
        Writer { buf: BytesMut::with_capacity(capacity), flexible }
    }
}

impl<B: BufMut> Writer<B> {
    /// Appends to what is in `buf`.
    pub fn onto(buf: B, flexible: bool) -> Writer<B> {
        Writer { buf, flexible }
    }

    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buf.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buf.put_u8(value as u8);
    }

    pub fn string(&mut self, text: &str) {
        if self.flexible {
            self.unsigned_varint(text.len() as u32 + 1);
        } else {
            self.buf.put_i16(text.len() as i16);
        }
        self.buf.put_slice(text.as_bytes());
    }

    pub fn nullable_string(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.string(text),
            None if self.flexible => self.buf.put_u8(0),
            None => self.buf.put_i16(-1),
        }
    }

    /// The length of an array, or of bytes that the caller appends; never null.
    pub fn length(&mut self, len: usize) {
        if self.flexible {
            self.unsigned_varint(len as u32 + 1);
        } else {
            self.buf.put_i32(len as i32);
        }
    }

    pub fn null_array(&mut self) {
        if self.flexible {
            self.buf.put_u8(0);
        } else {
            self.buf.put_i32(-1);
        }
    }

    pub fn topic(&mut self, topic: TopicRef<'_>) {
        match topic {
            TopicRef::Name(name) => self.string(name),
            TopicRef::Id(id) => self.buf.put_slice(id.as_bytes()),
        }
    }

    /// Closes a structure that has no tagged fields to write.
    pub fn no_tagged_fields(&mut self) {
        self.tagged_fields(&[]);
    }

    /// Closes a structure: (tag, content), sorted by tag.
    pub fn tagged_fields(&mut self, fields: &[(u32, &[u8])]) {
        if !self.flexible {
            return;
        }
        self.unsigned_varint(fields.len() as u32);
        for (tag, content) in fields {
            self.unsigned_varint(*tag);
            self.unsigned_varint(content.len() as u32);
            self.buf.put_slice(content);
        }
    }
}

/// Who leads a partition now, for a client that asked the wrong broker or with a stale epoch (KIP-951).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    pub leader_id: i32,
    pub leader_epoch: i32,
}

impl LeaderHint {
    /// The content of the tagged field.
    pub fn encoded(&self) -> [u8; 9] {
        let mut content = [0; 9];
        content[..4].copy_from_slice(&self.leader_id.to_be_bytes());
        content[4..8].copy_from_slice(&self.leader_epoch.to_be_bytes());
        content
    }
}

/// Where the leader of a [`LeaderHint`] is to be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

impl NodeEndpoint {
    /// The content of the tagged field that carries `endpoints`.
    pub fn encode_all(endpoints: &[NodeEndpoint]) -> BytesMut {
        let mut out = Writer::new(64, true);
        out.length(endpoints.len());
        for endpoint in endpoints {
            out.buf.put_i32(endpoint.node_id);
            out.string(&endpoint.host);
            out.buf.put_i32(i32::from(endpoint.port));
            out.nullable_string(endpoint.rack.as_deref());
            out.no_tagged_fields();
        }
        out.buf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_and_stop_at_32_bits() {
        for value in [0, 1, 127, 128, 300, 1 << 21, u32::MAX] {
            let mut out = Writer::new(8, true);
            out.unsigned_varint(value);
            assert_eq!(Reader::new(&out.buf, true).unsigned_varint(), Ok(value));
        }
        for bad in [&[0xff, 0xff, 0xff, 0xff, 0x1f][..], &[0xff, 0xff, 0xff, 0xff, 0x80, 0][..], &[0x80][..]] {
            assert!(Reader::new(bad, true).unsigned_varint().is_err());
        }
    }

    #[test]
    fn lengths_beyond_the_frame_and_negative_lengths_are_refused() {
        assert!(Reader::new(&[0x7f, 0xff, 0xff, 0xff, 1], false).array_len().is_err());
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xfe], false).nullable_bytes().is_err());
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff], false).nullable_bytes(), Ok(None));
        assert!(Reader::new(&[0xff, 0xff], false).string().is_err());
        assert!(Reader::new(&[5, b'a'], true).string().is_err());
        assert!(Reader::new(&[3, 0xc3, 0x28], true).string().is_err());
    }
}

//! The primitives of Kafka's flexible messages, as metadata records need them: varints, compact strings and arrays,
//! tagged fields. Reading never panics and never allocates more than a small multiple of what is there.

use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("it ends in the middle of a field")]
    Truncated,
    #[error("{0}")]
    Invalid(&'static str),
    #[error("unsupported frame version {0}")]
    Frame(u32),
    #[error("unknown record type {0}")]
    UnknownKey(u32),
    #[error("record type {key} has an unsupported version {version}")]
    UnknownVersion { key: u32, version: u32 },
}

type Result<T> = std::result::Result<T, DecodeError>;

#[derive(Default)]
pub struct Writer {
    buf: Vec<u8>,
    tagged: Vec<(u32, Vec<u8>)>,
}

impl Writer {
    pub fn new() -> Writer {
        Writer::default()
    }

    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buf.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buf.push(value as u8);
    }

    pub fn bool(&mut self, value: bool) {
        self.buf.push(value.into());
    }

    pub fn i8(&mut self, value: i8) {
        self.buf.extend(value.to_be_bytes());
    }

    pub fn i16(&mut self, value: i16) {
        self.buf.extend(value.to_be_bytes());
    }

    pub fn u16(&mut self, value: u16) {
        self.buf.extend(value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.buf.extend(value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.buf.extend(value.to_be_bytes());
    }

    pub fn uuid(&mut self, value: Uuid) {
        self.buf.extend(value.as_bytes());
    }

    pub fn string(&mut self, value: &str) {
        self.unsigned_varint(value.len() as u32 + 1);
        self.buf.extend(value.as_bytes());
    }

    pub fn nullable_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.string(value),
            None => self.unsigned_varint(0),
        }
    }

    pub fn array<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Writer, &T)) {
        self.unsigned_varint(items.len() as u32 + 1);
        items.iter().for_each(|i| item(self, i));
    }

    pub fn i32s(&mut self, items: &[i32]) {
        self.array(items, |w, i| w.i32(*i));
    }

    pub fn uuids(&mut self, items: &[Uuid]) {
        self.array(items, |w, i| w.uuid(*i));
    }

    /// Sets a tagged field; to be called in the order of tags, before [`Writer::end_struct`].
    pub fn tag(&mut self, tag: u32, field: impl FnOnce(&mut Writer)) {
        let mut writer = Writer::new();
        field(&mut writer);
        self.tagged.push((tag, writer.buf));
    }

    /// Writes the tagged fields that were set: what every struct ends with.
    pub fn end_struct(&mut self) {
        let tagged = std::mem::take(&mut self.tagged);
        self.unsigned_varint(tagged.len() as u32);
        for (tag, field) in tagged {
            self.unsigned_varint(tag);
            self.unsigned_varint(field.len() as u32);
            self.buf.extend(field);
        }
    }

    pub fn finish(self) -> Vec<u8> {
        self.buf
    }
}

pub struct Reader<'a> {
    buf: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(buf: &'a [u8]) -> Reader<'a> {
        Reader { buf }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.buf.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.buf = rest;
        Ok(head)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.buf.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.buf = rest;
        Ok(*head)
    }

    pub fn unsigned_varint(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.fixed()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Invalid("a varint of more than five bytes"))
    }

    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.i8()? != 0)
    }

    pub fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    pub fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid::from_bytes(self.fixed()?))
    }

    pub fn string(&mut self) -> Result<String> {
        self.nullable_string()?.ok_or(DecodeError::Invalid("null in a field that cannot be null"))
    }

    pub fn nullable_string(&mut self) -> Result<Option<String>> {
        let Some(len) = self.unsigned_varint()?.checked_sub(1) else { return Ok(None) };
        let bytes = self.take(len as usize)?;
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid("a string that is not UTF-8"))?;
        Ok(Some(text.to_owned()))
    }

    pub fn array<T>(&mut self, item: impl FnMut(&mut Reader<'a>) -> Result<T>) -> Result<Vec<T>> {
        self.nullable_array(item)?.ok_or(DecodeError::Invalid("null in a field that cannot be null"))
    }

    pub fn nullable_array<T>(&mut self, mut item: impl FnMut(&mut Reader<'a>) -> Result<T>) -> Result<Option<Vec<T>>> {
        let Some(len) = self.unsigned_varint()?.checked_sub(1) else { return Ok(None) };
        if len as usize > self.buf.len() {
            return Err(DecodeError::Truncated);
        }
        (0..len).map(|_| item(self)).collect::<Result<Vec<T>>>().map(Some)
    }

    pub fn i32s(&mut self) -> Result<Vec<i32>> {
        self.array(|r| r.i32())
    }

    pub fn uuids(&mut self) -> Result<Vec<Uuid>> {
        self.array(|r| r.uuid())
    }

    /// Hands each tagged field to `field`, which may leave those it does not know.
    pub fn end_struct(&mut self, mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<()>) -> Result<()> {
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let len = self.unsigned_varint()? as usize;
            field(tag, &mut Reader::new(self.take(len)?))?;
        }
        Ok(())
    }

    /// A struct without tagged fields that we know.
    pub fn end_plain_struct(&mut self) -> Result<()> {
        self.end_struct(|_, _| Ok(()))
    }
}

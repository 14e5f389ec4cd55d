//! The check that runs before kafka-protocol decodes a request. Its decoders allocate by the counts on the wire, so a
//! body of 6 bytes could ask for 309 GB; here the body is walked by its schema, without allocating, and whatever
//! claims more than it carries is refused. Values are not judged: that is the decoder's and the handlers' work.

use super::schema::{Field, Kind, Schema};

/// Elements of all arrays, and tagged fields, in one request: bounds what decoding them may allocate.
pub const MAX_ELEMENTS: usize = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    #[error("{field}: {need} bytes announced, {have} there")]
    Truncated { field: &'static str, need: usize, have: usize },
    #[error("{field}: length {length}")]
    Length { field: &'static str, length: i64 },
    #[error("{field}: malformed varint")]
    Varint { field: &'static str },
    #[error("{field}: a tagged field of {announced} bytes that takes {taken}")]
    TagSize { field: &'static str, announced: usize, taken: usize },
    #[error("more than {MAX_ELEMENTS} elements")]
    TooManyElements,
}

/// Ok: decoding `body` allocates in proportion to its bytes, at most for [`MAX_ELEMENTS`] elements.
/// Bytes after the last field are left alone, as Kafka does.
pub fn check(schema: &Schema, version: i16, body: &[u8]) -> Result<(), GuardError> {
    let mut walk = Walk { rest: body, version, flexible: schema.is_flexible(version), elements: 0 };
    walk.structure(schema.name, schema.fields)
}

/// Skips the tagged fields at the start of `bytes` (of a request header) and returns how many bytes they take.
pub fn skip_tagged_fields(bytes: &[u8]) -> Result<usize, GuardError> {
    let mut walk = Walk { rest: bytes, version: 0, flexible: true, elements: 0 };
    walk.tagged_fields("header", &[])?;
    Ok(bytes.len() - walk.rest.len())
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Walk<'_> {
    fn structure(&mut self, name: &'static str, fields: &'static [Field]) -> Result<(), GuardError> {
        for field in fields {
            if field.tag.is_none() && field.is_in(self.version) {
                self.field(field)?;
            }
        }
        if self.flexible { self.tagged_fields(name, fields) } else { Ok(()) }
    }

    fn field(&mut self, field: &'static Field) -> Result<(), GuardError> {
        let name = field.name;
        match field.kind {
            Kind::Fixed(len) => self.skip(name, len),
            Kind::String => self.string(name),
            Kind::Bytes => match self.length(name, 4)? {
                Some(len) => self.skip(name, len),
                None => Ok(()),
            },
            Kind::FixedArray(len) => {
                let count = self.count(name)?;
                self.skip(name, count.saturating_mul(len))
            }
            Kind::StringArray => (0..self.count(name)?).try_for_each(|_| self.string(name)),
            Kind::Array(fields) => (0..self.count(name)?).try_for_each(|_| self.structure(name, fields)),
            Kind::Struct(fields) => self.structure(name, fields),
            Kind::NullableStruct(fields) => match self.take::<1>(name)? {
                [1] => self.structure(name, fields),
                [0xff] => Ok(()),
                [other] => Err(GuardError::Length { field: name, length: other as i8 as i64 }),
            },
        }
    }

    fn string(&mut self, name: &'static str) -> Result<(), GuardError> {
        match self.length(name, 2)? {
            Some(len) => self.skip(name, len),
            None => Ok(()),
        }
    }

    /// An array's count. What it announces is walked right after, so that a count without content is found out
    /// before anything is allocated for it.
    fn count(&mut self, name: &'static str) -> Result<usize, GuardError> {
        let count = self.length(name, 4)?.unwrap_or(0);
        self.add_elements(count)?;
        Ok(count)
    }

    fn add_elements(&mut self, count: usize) -> Result<(), GuardError> {
        self.elements = self.elements.saturating_add(count);
        if self.elements > MAX_ELEMENTS { Err(GuardError::TooManyElements) } else { Ok(()) }
    }

    /// A known tag's content must take what its size says: the decoder goes by the content, and would otherwise read
    /// on at another place than this walk. Repeated tags overwrite each other there, and are harmless.
    fn tagged_fields(&mut self, name: &'static str, fields: &'static [Field]) -> Result<(), GuardError> {
        let count = self.varint(name)? as usize;
        self.add_elements(count)?;
        for _ in 0..count {
            let tag = self.varint(name)?;
            let announced = self.varint(name)? as usize;
            let before = self.rest.len();
            match fields.iter().find(|f| f.tag == Some(tag) && f.is_in(self.version)) {
                None => self.skip(name, announced)?,
                Some(field) => {
                    self.field(field)?;
                    let taken = before - self.rest.len();
                    if taken != announced {
                        return Err(GuardError::TagSize { field: field.name, announced, taken });
                    }
                }
            }
        }
        Ok(())
    }

    /// A length in the form of this version: varint of length + 1, or `width` bytes; None is null.
    fn length(&mut self, name: &'static str, width: usize) -> Result<Option<usize>, GuardError> {
        if self.flexible {
            return Ok((self.varint(name)? as usize).checked_sub(1));
        }
        let length = match width {
            2 => i16::from_be_bytes(self.take(name)?) as i64,
            _ => i32::from_be_bytes(self.take(name)?) as i64,
        };
        match length {
            -1 => Ok(None),
            0.. => Ok(Some(length as usize)),
            _ => Err(GuardError::Length { field: name, length }),
        }
    }

    fn varint(&mut self, name: &'static str) -> Result<u32, GuardError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take(name)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return if shift == 28 && byte > 0x0f { Err(GuardError::Varint { field: name }) } else { Ok(value) };
            }
        }
        Err(GuardError::Varint { field: name })
    }

    fn take<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], GuardError> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(GuardError::Truncated { field: name, need: N, have: self.rest.len() }),
        }
    }

    fn skip(&mut self, name: &'static str, len: usize) -> Result<(), GuardError> {
        match self.rest.split_at_checked(len) {
            Some((_, rest)) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(GuardError::Truncated { field: name, need: len, have: self.rest.len() }),
        }
    }
}

#[cfg(test)]
mod tests;

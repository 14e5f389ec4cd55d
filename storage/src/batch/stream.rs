//! Walking the records of a compressed batch while it is decompressed, in a small window: keys, values and headers are
//! skipped, so memory stays the same however well the batch was compressed.

use std::io::Read;

use super::records::{HEADER_COUNT, HEADER_NAME, TRUNCATED, read_varint, read_varlong};
use super::{BatchError, BatchHeader, TimestampType};

/// The most that one batch may decompress to: what a Java client can hold in one buffer.
const MAX_RECORDS_BYTES: u64 = i32::MAX as u64;
const WINDOW_BYTES: usize = 16 << 10;

/// What validation wants to know about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordFields {
    pub offset: i64,
    pub timestamp: i64,
    pub has_key: bool,
}

pub(crate) struct StreamRecords<R> {
    source: Source<R>,
    remaining: i64,
    base_offset: i64,
    base_timestamp: i64,
    log_append_time: Option<i64>,
}

impl<R: Read> StreamRecords<R> {
    /// `reader` yields the decompressed records of the batch with `header`.
    pub fn new(header: &BatchHeader, reader: R) -> StreamRecords<R> {
        StreamRecords {
            source: Source { reader, window: Box::new([0; WINDOW_BYTES]), start: 0, end: 0, read_bytes: 0 },
            remaining: i64::from(header.record_count),
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            log_append_time: (header.timestamp_type() == TimestampType::LogAppendTime).then_some(header.max_timestamp),
        }
    }

    /// The next record; None after as many as the header says, if the stream ends there too.
    pub fn next(&mut self) -> Result<Option<RecordFields>, BatchError> {
        if self.remaining > 0 {
            self.remaining -= 1;
            return self.read_record().map(Some);
        }
        if self.source.fill()? == 0 {
            Ok(None)
        } else {
            Err(BatchError::Records("bytes are left after the last record"))
        }
    }

    pub fn into_reader(self) -> R {
        self.source.reader
    }

    fn read_record(&mut self) -> Result<RecordFields, BatchError> {
        let source = &mut self.source;
        let body_bytes = u64::try_from(source.varint()?).map_err(|_| TRUNCATED)?;
        let start = source.position();
        source.byte()?; // attributes, unused
        let timestamp_delta = read_varlong(|| source.byte())?;
        let offset_delta = source.varint()?;
        let has_key = source.skip_nullable()?;
        source.skip_nullable()?;
        let headers = source.varint()?;
        if headers < 0 {
            return Err(HEADER_COUNT);
        }
        for _ in 0..headers {
            let name_bytes = usize::try_from(source.varint()?).map_err(|_| HEADER_NAME)?;
            source.skip(name_bytes)?;
            source.skip_nullable()?;
        }
        if source.position() - start != body_bytes {
            return Err(BatchError::Records("a record's size is not that of its fields"));
        }
        Ok(RecordFields {
            offset: self.base_offset.wrapping_add(i64::from(offset_delta)),
            timestamp: self.log_append_time.unwrap_or(self.base_timestamp.wrapping_add(timestamp_delta)),
            has_key,
        })
    }
}

/// A reader with a window; counts what it hands out and stops at MAX_RECORDS_BYTES.
struct Source<R> {
    reader: R,
    window: Box<[u8; WINDOW_BYTES]>,
    start: usize,
    end: usize,
    read_bytes: u64,
}

impl<R: Read> Source<R> {
    fn position(&self) -> u64 {
        self.read_bytes - (self.end - self.start) as u64
    }

    /// Bytes in the window, after reading more if it was empty; 0 at the end of the stream.
    #[inline]
    fn fill(&mut self) -> Result<usize, BatchError> {
        if self.start == self.end {
            self.refill()?;
        }
        Ok(self.end - self.start)
    }

    #[cold]
    fn refill(&mut self) -> Result<(), BatchError> {
        self.start = 0;
        self.end = 0;
        self.end = self
            .reader
            .read(&mut self.window[..])
            .map_err(|_| BatchError::Records("the records cannot be decompressed"))?;
        self.read_bytes += self.end as u64;
        if self.read_bytes > MAX_RECORDS_BYTES {
            return Err(BatchError::Records("the records are too large when decompressed"));
        }
        Ok(())
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, BatchError> {
        if self.fill()? == 0 {
            return Err(TRUNCATED);
        }
        let byte = self.window[self.start];
        self.start += 1;
        Ok(byte)
    }

    #[inline]
    fn varint(&mut self) -> Result<i32, BatchError> {
        read_varint(|| self.byte())
    }

    fn skip(&mut self, mut n: usize) -> Result<(), BatchError> {
        while n > 0 {
            let step = self.fill()?.min(n);
            if step == 0 {
                return Err(TRUNCATED);
            }
            self.start += step;
            n -= step;
        }
        Ok(())
    }

    /// Skips a length and that many bytes; false if it was null.
    #[inline]
    fn skip_nullable(&mut self) -> Result<bool, BatchError> {
        match usize::try_from(self.varint()?) {
            Ok(len) => self.skip(len).map(|()| true),
            Err(_) => Ok(false),
        }
    }
}

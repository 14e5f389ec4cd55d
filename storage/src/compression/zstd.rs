//! Reading zstd frames, with a decompression context that each thread uses again.

use std::cell::Cell;
use std::io::{self, Read};

use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective};

use super::invalid;

/// A context that had to grow for a very large window (`zstd --ultra`) is not kept.
const KEEP_BYTES: usize = 4 << 20;

thread_local! {
    static SPARE: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

pub(super) struct Reader<'a> {
    src: &'a [u8],
    /// Some until dropped.
    context: Option<DCtx<'static>>,
    /// Between frames, where the stream may end.
    whole: bool,
}

impl<'a> Reader<'a> {
    pub fn new(src: &'a [u8]) -> Reader<'a> {
        Reader { src, context: Some(SPARE.take().unwrap_or_default()), whole: true }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(context) = self.context.as_mut() else { return Ok(0) };
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if self.src.is_empty() && self.whole {
                return Ok(0);
            }
            let was_empty = self.src.is_empty();
            let mut input = InBuffer::around(self.src);
            let mut output = OutBuffer::around(buf);
            let hint =
                context.decompress_stream(&mut output, &mut input).map_err(|_| invalid("a zstd frame is corrupt"))?;
            let (consumed, produced) = (input.pos(), output.pos());
            self.src = &self.src[consumed..];
            self.whole = hint == 0;
            if produced > 0 {
                return Ok(produced);
            }
            if was_empty && !self.whole {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(mut context) = self.context.take()
            && context.sizeof() <= KEEP_BYTES
            && context.reset(ResetDirective::SessionOnly).is_ok()
        {
            SPARE.set(Some(context));
        }
    }
}

//! Memory for what is received. Large buffers are used again, the last freed first: what is received next finds them in
//! the processor's cache, and the allocator does not return them to the system only to ask for them again.

use std::cell::RefCell;

use bytes::Bytes;

/// Smaller buffers are the allocator's business.
const SMALLEST_KEPT_BYTES: usize = 8 << 10;
const LARGEST_KEPT_BYTES: usize = 256 << 10;
/// What a thread keeps.
const KEEP_BYTES: usize = 2 << 20;

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { buffers: Vec::new(), bytes: 0 }) };
}

struct Kept {
    /// Empty ones, the last freed at the end.
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// An empty buffer with room for so many bytes.
pub fn take(bytes: usize) -> Vec<u8> {
    if !(SMALLEST_KEPT_BYTES..=LARGEST_KEPT_BYTES).contains(&bytes) {
        return Vec::with_capacity(bytes);
    }
    // Few capacities, so that what one frame leaves behind fits the next.
    let capacity = bytes.next_power_of_two();
    KEPT.with_borrow_mut(|kept| kept.take(capacity)).unwrap_or_else(|| Vec::with_capacity(capacity))
}

/// What was received, to be shared. Its memory is kept by the thread that lets go of it last.
pub fn freeze(buffer: Vec<u8>) -> Bytes {
    match is_kept(&buffer) {
        true => Bytes::from_owner(Received(buffer)),
        false => Bytes::from(buffer),
    }
}

/// A buffer that nobody needs any more.
pub fn give_back(buffer: Vec<u8>) {
    if is_kept(&buffer) {
        // A thread that ends keeps nothing.
        let _ = KEPT.try_with(|kept| kept.borrow_mut().give_back(buffer));
    }
}

fn is_kept(buffer: &Vec<u8>) -> bool {
    (SMALLEST_KEPT_BYTES..=LARGEST_KEPT_BYTES).contains(&buffer.capacity())
}

struct Received(Vec<u8>);

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.0));
    }
}

impl Kept {
    fn take(&mut self, capacity: usize) -> Option<Vec<u8>> {
        let last = self.buffers.iter().rposition(|buffer| buffer.capacity() == capacity)?;
        self.bytes -= capacity;
        Some(self.buffers.remove(last))
    }

    /// At the expense of what has not been used for longest.
    fn give_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.bytes += buffer.capacity();
        self.buffers.push(buffer);
        while self.bytes > KEEP_BYTES {
            self.bytes -= self.buffers.remove(0).capacity();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_that_was_freed_last_is_used_next() {
        let [one, other] = [take(60_000), take(60_000)].map(|mut buffer| {
            buffer.push(1);
            freeze(buffer)
        });
        let at = [one.as_ptr(), other.as_ptr()];
        let piece = other.slice(..1);
        drop((one, other));
        let next = take(50_000);
        assert_eq!(next.as_ptr(), at[0], "the other is still in use");
        drop(piece);
        let again = take(40_000);
        assert_eq!((again.as_ptr(), again.len()), (at[1], 0));
    }

    #[test]
    fn a_thread_keeps_so_much_and_no_more() {
        let many: Vec<Bytes> = (0..100).map(|_| freeze(take(LARGEST_KEPT_BYTES))).collect();
        drop(many);
        drop(freeze(take(LARGEST_KEPT_BYTES + 1)));
        drop(freeze(take(100)));
        KEPT.with_borrow(|kept| {
            assert_eq!(kept.bytes, KEEP_BYTES);
            assert_eq!(kept.buffers.iter().map(Vec::capacity).sum::<usize>(), KEEP_BYTES);
        });
    }
}

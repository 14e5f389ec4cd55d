//! Room in front of the writer: space that is reserved on the disk before anything is acknowledged, and pages that the
//! kernel makes many at a time.

use crate::io::BLOCK;

/// Space is reserved ahead in steps that double between these bounds.
const SMALLEST_STEP_BYTES: u64 = 64 << 10;
const LARGEST_STEP_BYTES: u64 = 16 << 20;
/// The page cache is filled up to a multiple of a few times what is written, at most of this: the largest pieces that
/// the kernel hands out without looking for them.
const LARGEST_FILL_BYTES: u64 = 32 << 10;
const FILL_FACTOR: u64 = 4;

static ZEROS: [u8; LARGEST_FILL_BYTES as usize] = [0; LARGEST_FILL_BYTES as usize];

/// Of the segment that is written.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The file's length: up to here it is the log's, and reads as zeros where nothing was written.
    pub reserved: u64,
    /// Up to here the page cache has pages.
    filled: u64,
}

impl Ahead {
    pub fn new(reserved: u64, written: u64) -> Ahead {
        Ahead { reserved, filled: written }
    }

    /// Up to where to reserve before a write that ends at `end`, if there is not enough; `limit` is the largest segment,
    /// `all` asks for that much at once.
    pub fn reserve(&self, end: u64, limit: u64, all: bool) -> Option<u64> {
        let needed = end.next_multiple_of(BLOCK as u64);
        let step = self.reserved.clamp(SMALLEST_STEP_BYTES, LARGEST_STEP_BYTES);
        let wanted = if all { limit } else { (self.reserved + step).min(limit) };
        (needed > self.reserved).then(|| wanted.max(needed))
    }

    /// Zeros to write behind `from..end`, where there are zeros anyway up to `reserved`. The kernel makes as large a piece
    /// of the page cache as a write allows, from where it is aligned. Batches end anywhere, and would get many small pieces;
    /// each costs more than a few zeros do.
    pub fn fill(&mut self, from: u64, end: u64, reserved: u64) -> &'static [u8] {
        if end <= self.filled {
            return &[];
        }
        let bytes = end - from;
        let unit = (FILL_FACTOR * bytes).next_power_of_two().clamp(BLOCK as u64, LARGEST_FILL_BYTES);
        let to = end.next_multiple_of(unit).min(reserved);
        self.filled = to.max(end);
        &ZEROS[..(self.filled - end) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    #[test]
    fn space_is_reserved_in_steps_that_double() {
        let mut ahead = Ahead::default();
        let mut reserve = |end: u64| {
            let to = ahead.reserve(end, 1 << 30, false);
            ahead.reserved = to.unwrap_or(ahead.reserved);
            to.map(|to| to / KIB)
        };
        assert_eq!([1, 64 * KIB, 64 * KIB + 1].map(&mut reserve), [Some(64), None, Some(128)]);
        assert_eq!([129, 300, 1000].map(|kib| reserve(kib * KIB)), [Some(256), Some(512), Some(1024)]);
        assert_eq!(Ahead::default().reserve(1, 10 * KIB, false), Some(10 * KIB));
        assert_eq!(Ahead::default().reserve(1, 1 << 20, true), Some(1 << 20));
        assert_eq!(Ahead::default().reserve(9 * KIB, 4 * KIB, false), Some(12 * KIB));
    }

    #[test]
    fn pages_are_made_for_a_few_writes_at_a_time_within_what_is_reserved() {
        let mut ahead = Ahead::new(1 << 20, 0);
        let mut fill = |from, end| ahead.fill(from, end, 200 * KIB).len() as u64;
        assert_eq!(fill(0, 1000), 3096, "to the next block");
        assert_eq!(fill(1000, 2000), 0);
        assert_eq!(fill(2000, 6000), 10 * KIB + 144, "four times 4000 bytes");
        assert_eq!(fill(6000, 30 * KIB), 2 * KIB);
        assert_eq!(fill(30 * KIB, 95 * KIB), KIB, "the next write begins where a large piece can");
        assert_eq!(fill(95 * KIB, 97 * KIB), 7 * KIB);
        assert_eq!(fill(190 * KIB, 195 * KIB), 5 * KIB, "the end of what is reserved");
    }
}

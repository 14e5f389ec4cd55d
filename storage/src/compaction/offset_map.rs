//! Which record is the last of its key, in bounded memory (Kafka's SkimpyOffsetMap): a hash table of key hashes and
//! offsets, and a bit for each offset so that most records are judged without hashing their key again.
//!
//! Keys are known by their 128-bit XXH3. Among the five million keys that the default of log.cleaner.dedupe.buffer.size
//! holds, two collide with a probability of 10^-25. XXH3 does not withstand somebody who looks for collisions, but who
//! can write a record whose key collides with another could as well have written to that key.

use twox_hash::XxHash3_128;

/// Small logs take small tables.
const SMALLEST_SLOTS: usize = 1 << 10;
/// The share of the memory that goes to bits: one in so many bytes. Behind the offsets that they cover, keys are hashed.
const BITS_SHARE: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: [u64; 2],
    /// The key's last offset plus one; 0: the slot is free.
    next: i64,
}

#[derive(Debug)]
pub struct OffsetMap {
    /// Linear probing from a home that rises with the hash.
    slots: Vec<Slot>,
    entries: usize,
    max_slots: usize,
    max_entries: usize,
    /// How often the table can still double.
    doublings: u32,
    /// Bit n: the record at `first_offset + n` is the last of its key.
    last: Vec<u64>,
    max_bits: usize,
    first_offset: i64,
    latest_offset: i64,
}

impl OffsetMap {
    /// Takes no memory before the first key, and never more than `max_bytes`; is full when `load_factor` of the slots are
    /// in use.
    pub fn new(max_bytes: usize, load_factor: f64) -> OffsetMap {
        let bits_bytes = max_bytes / BITS_SHARE;
        let max_slots = ((max_bytes - bits_bytes) / size_of::<Slot>()).max(2);
        OffsetMap {
            slots: Vec::new(),
            entries: 0,
            max_slots,
            // A free slot ends each search.
            max_entries: ((max_slots as f64 * load_factor) as usize).clamp(1, max_slots - 1),
            doublings: (max_slots / SMALLEST_SLOTS).max(1).ilog2(),
            last: Vec::new(),
            // Half, since a vector that grows is there twice for a moment.
            max_bits: bits_bytes / 2 * 8,
            first_offset: 0,
            latest_offset: -1,
        }
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        self.slots = Vec::new();
        self.last = Vec::new();
        self.entries = 0;
        self.doublings = (self.max_slots / SMALLEST_SLOTS).max(1).ilog2();
        self.latest_offset = -1;
    }

    pub fn len(&self) -> usize {
        self.entries
    }

    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// All records up to this offset are taken into account.
    pub fn latest_offset(&self) -> i64 {
        self.latest_offset
    }

    /// All records up to `offset` are taken into account.
    pub fn set_latest_offset(&mut self, offset: i64) {
        self.latest_offset = self.latest_offset.max(offset);
    }

    /// Brings the keys' slots into the processor's cache, all at once: one after another each would be waited for.
    pub fn prepare(&self, keys: &[(KeyHash, i64)]) {
        if !self.slots.is_empty() {
            let touched = keys.iter().fold(0, |touched, (key, _)| touched ^ self.slots[self.home(key.0)].next);
            std::hint::black_box(touched);
        }
    }

    /// Notes the record at `offset`, which must be larger than all before; false, and nothing is noted, if the key is new
    /// and there is no room for it.
    pub fn put(&mut self, KeyHash(hash): KeyHash, offset: i64) -> bool {
        if self.entries * 10 >= self.slots.len() * 7 && (self.slots.is_empty() || self.doublings > 0) {
            self.grow();
        }
        let at = self.find(hash);
        match self.slots[at].next {
            0 if self.entries == self.max_entries => return false,
            0 => {
                if self.entries == 0 {
                    self.first_offset = offset;
                }
                self.entries += 1;
            }
            next => self.mark(next - 1, false),
        }
        self.slots[at] = Slot { hash, next: offset + 1 };
        self.mark(offset, true);
        self.latest_offset = offset;
        true
    }

    /// Whether the record at `offset`, which is not beyond the latest offset, is the last of its key.
    pub fn is_last(&self, key: &[u8], offset: i64) -> bool {
        match self.bit(offset) {
            // All that was read was aborted: nothing hides anything, and no offset is the first.
            _ if self.is_empty() => true,
            Some(bit) => self.last.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1),
            None => self.slots[self.find(KeyHash::of(key).0)].next <= offset + 1,
        }
    }

    fn bit(&self, offset: i64) -> Option<usize> {
        usize::try_from(offset - self.first_offset).ok().filter(|bit| *bit < self.max_bits)
    }

    fn mark(&mut self, offset: i64, is_last: bool) {
        let Some(bit) = self.bit(offset) else { return };
        if bit / 64 >= self.last.len() {
            self.last.resize(bit / 64 + 1, 0);
        }
        let word = &mut self.last[bit / 64];
        *word = *word & !(1 << (bit % 64)) | u64::from(is_last) << (bit % 64);
    }

    fn home(&self, hash: [u64; 2]) -> usize {
        ((u128::from(hash[0]) * self.slots.len() as u128) >> 64) as usize
    }

    /// The slot of a key, or the free one where it belongs.
    fn find(&self, hash: [u64; 2]) -> usize {
        let mut at = self.home(hash);
        while self.slots[at].next != 0 && self.slots[at].hash != hash {
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        at
    }

    /// Doubles the table in place. Homes rise with hashes, so that entries taken from the last to the first find their
    /// new place among those that have moved already. The few that do not, at both ends, wait until all others have.
    fn grow(&mut self) {
        self.doublings = if self.slots.is_empty() { self.doublings } else { self.doublings - 1 };
        let (old, new) = (self.slots.len(), self.max_slots >> self.doublings);
        self.slots.reserve_exact(new - old);
        self.slots.resize(new, Slot::default());
        let mut waiting = Vec::new();
        for at in (0..old).rev() {
            let slot = std::mem::take(&mut self.slots[at]);
            if slot.next == 0 {
                continue;
            }
            let home = self.home(slot.hash);
            match (home..new).find(|&to| self.slots[to].next == 0).filter(|_| home >= at) {
                Some(to) => self.slots[to] = slot,
                None => waiting.push(slot),
            }
        }
        for slot in waiting {
            let at = self.find(slot.hash);
            self.slots[at] = slot;
        }
    }
}

/// What a key is known by.
#[derive(Clone, Copy, Debug)]
pub struct KeyHash([u64; 2]);

impl KeyHash {
    pub fn of(key: &[u8]) -> KeyHash {
        let hash = XxHash3_128::oneshot(key);
        KeyHash([(hash >> 64) as u64, hash as u64])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn put(map: &mut OffsetMap, key: &[u8], offset: i64) -> bool {
        map.put(KeyHash::of(key), offset)
    }

    #[test]
    fn every_key_is_found_again_however_often_the_table_grew() {
        let mut map = OffsetMap::new(8 << 20, 0.9);
        for offset in 0..200_000 {
            assert!(put(&mut map, &i64::to_be_bytes(offset), offset));
        }
        assert_eq!(map.len(), 200_000);
        map.max_bits = 0; // the table alone
        for offset in 0..200_000 {
            assert!(map.is_last(&i64::to_be_bytes(offset), offset), "{offset}");
            assert!(!map.is_last(&i64::to_be_bytes(offset), offset - 1), "{offset}");
        }
        assert!(map.is_last(b"unknown", 5));
    }

    #[test]
    fn a_full_map_takes_known_keys_and_no_others() {
        let mut map = OffsetMap::new(24 * 160, 0.5);
        let room = (0..).take_while(|&n| put(&mut map, &i64::to_be_bytes(n), n)).count();
        assert_eq!(room, map.max_slots / 2);
        assert!(put(&mut map, &i64::to_be_bytes(3), 1000));
        assert!(!map.is_last(&i64::to_be_bytes(3), 3));
        assert!(map.is_last(&i64::to_be_bytes(3), 1000));
        assert_eq!((map.len(), map.latest_offset()), (room, 1000));
    }

    #[test]
    fn memory_stays_within_the_bound_and_is_given_back() {
        let bytes = |map: &OffsetMap| map.slots.capacity() * size_of::<Slot>() + map.last.capacity() * 8;
        let mut map = OffsetMap::new(1 << 20, 0.9);
        assert_eq!(bytes(&map), 0);
        let noted = (0..i64::MAX).take_while(|&n| put(&mut map, &(n * n).to_be_bytes(), n * 1000)).count();
        assert!(noted > 30_000 && bytes(&map) <= 1 << 20, "{noted} keys in {} bytes", bytes(&map));
        map.clear();
        assert_eq!((bytes(&map), map.len(), map.latest_offset()), (0, 0, -1));
        assert!(map.is_last(b"unknown", 7_000), "no key hides a record");
        assert!(put(&mut map, b"again", 7) && map.is_last(b"again", 7));
    }

    proptest! {
        #[test]
        fn the_last_of_each_key_is_the_one_a_model_names(
            puts in prop::collection::vec((0..60u8, 1..400i64), 1..300),
            max_bits in prop::sample::select(vec![0, 64, 2000, 1 << 20]),
        ) {
            let mut map = OffsetMap::new(1 << 16, 0.9);
            map.max_bits = max_bits;
            let mut model = HashMap::new();
            let mut offset = 0;
            let mut records = Vec::new();
            for (key, step) in puts {
                offset += step;
                prop_assert!(put(&mut map, &[key], offset));
                model.insert(key, offset);
                records.push((key, offset));
            }
            prop_assert_eq!(map.len(), model.len());
            for (key, offset) in records {
                prop_assert_eq!(map.is_last(&[key], offset), model[&key] == offset);
            }
        }
    }
}

//! A segment's `.txnindex`: the transactions that were aborted and whose marker lies in the segment (Kafka's
//! TransactionIndex). Entries of 34 bytes in the order of their markers; the file exists only if there are any.

/// Version, producer id, first offset, last offset, last stable offset.
pub const ENTRY_BYTES: usize = 34;
const VERSION: i16 = 0;

/// One aborted transaction of one producer on one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    /// Of its first record.
    pub first_offset: i64,
    /// Of its marker.
    pub last_offset: i64,
    /// What the last stable offset became with that marker.
    pub last_stable_offset: i64,
}

impl AbortedTransaction {
    fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..2].copy_from_slice(&VERSION.to_be_bytes());
        let numbers = [self.producer_id, self.first_offset, self.last_offset, self.last_stable_offset];
        for (at, number) in bytes[2..].chunks_exact_mut(8).zip(numbers) {
            at.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }
}

/// So many entries a segment may have: more, and the log rolls. It bounds what one read has to look through.
pub const MAX_ENTRIES: usize = 16 << 10;

/// The file with these entries.
pub fn to_bytes(entries: &[AbortedTransaction]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_bytes()).collect()
}

/// The entries of a file; Err says what is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Vec<AbortedTransaction>, String> {
    if !bytes.len().is_multiple_of(ENTRY_BYTES) {
        return Err(format!("{} bytes are no whole number of entries", bytes.len()));
    }
    let mut entries: Vec<AbortedTransaction> = Vec::with_capacity(bytes.len() / ENTRY_BYTES);
    for (index, entry) in bytes.chunks_exact(ENTRY_BYTES).enumerate() {
        let version = i16::from_be_bytes([entry[0], entry[1]]);
        if version > VERSION {
            return Err(format!("entry {index} is of the unknown version {version}"));
        }
        let mut numbers = entry[2..].as_chunks::<8>().0.iter().map(|bytes| i64::from_be_bytes(*bytes));
        let mut number = || numbers.next().unwrap_or(-1);
        let entry = AbortedTransaction {
            producer_id: number(),
            first_offset: number(),
            last_offset: number(),
            last_stable_offset: number(),
        };
        if entries.last().is_some_and(|before| before.last_offset >= entry.last_offset) {
            return Err(format!("entry {index} is not after the one before it"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were_and_damage_is_refused() {
        let entries: Vec<_> = (0..3)
            .map(|i| AbortedTransaction {
                producer_id: 7,
                first_offset: i * 10,
                last_offset: i * 10 + 9,
                last_stable_offset: i * 10 + 10,
            })
            .collect();
        let bytes = to_bytes(&entries);
        assert_eq!(bytes.len(), 102);
        assert_eq!(parse(&bytes), Ok(entries));
        assert!(parse(&bytes[..50]).is_err());
        assert!(parse(&[&bytes[34..68], &bytes[..34]].concat()).is_err());
        let mut newer = bytes;
        newer[1] = 1;
        assert!(parse(&newer).is_err());
    }
}

//! Leader epochs of one partition and their start offsets (Kafka's LeaderEpochFileCache); pure state plus the text of
//! `leader-epoch-checkpoint`.

pub const EPOCHS_FILE: &str = "leader-epoch-checkpoint";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    pub epoch: i32,
    pub start_offset: i64,
}

/// Sorted by epoch, and so by offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    entries: Vec<EpochEntry>,
}

impl Epochs {
    /// Notes that `epoch` starts at `start_offset`, if it is newer than the latest. True if something changed.
    pub fn assign(&mut self, epoch: i32, start_offset: i64) -> bool {
        if epoch < 0 || self.latest().is_some_and(|latest| latest.epoch >= epoch) {
            return false;
        }
        // An epoch in which nothing was written leaves no trace.
        self.entries.retain(|e| e.start_offset < start_offset);
        self.entries.push(EpochEntry { epoch, start_offset });
        true
    }

    pub fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// Kafka's endOffsetFor: (the largest epoch <= `epoch`, the offset where it ends); (-1, -1) if undefined.
    pub fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> (i32, i64) {
        const UNDEFINED: (i32, i64) = (-1, -1);
        let Some(latest) = self.latest().filter(|_| epoch >= 0) else { return UNDEFINED };
        if epoch == latest.epoch {
            return (epoch, log_end_offset);
        }
        let next = self.entries.partition_point(|e| e.epoch <= epoch);
        match self.entries.get(next) {
            // Newer than any epoch here.
            None => UNDEFINED,
            // Older than any epoch here: it ended where the first begins.
            Some(first) if next == 0 => (epoch, first.start_offset),
            Some(after) => (self.entries[next - 1].epoch, after.start_offset),
        }
    }

    pub fn epoch_for_offset(&self, offset: i64) -> Option<i32> {
        let after = self.entries.partition_point(|e| e.start_offset <= offset);
        after.checked_sub(1).map(|i| self.entries[i].epoch)
    }

    /// Forgets what begins at or after `end_offset`. True if something changed.
    pub fn truncate_from_end(&mut self, end_offset: i64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|e| e.start_offset < end_offset);
        self.entries.len() != before
    }

    /// Forgets epochs that end at or before `start_offset`; the one that contains it starts there. True if something
    /// changed.
    pub fn truncate_from_start(&mut self, start_offset: i64) -> bool {
        let contains = self.entries.partition_point(|e| e.start_offset <= start_offset).saturating_sub(1);
        let Some(entry) = self.entries.get(contains).filter(|e| e.start_offset < start_offset) else { return false };
        let kept = EpochEntry { start_offset, ..*entry };
        self.entries.drain(..contains);
        self.entries[0] = kept;
        true
    }

    /// The checkpoint file: version 0, the count, then an epoch and its start offset a line.
    pub fn to_text(&self) -> String {
        let lines = self.entries.iter().map(|e| format!("{} {}\n", e.epoch, e.start_offset));
        format!("0\n{}\n{}", self.entries.len(), lines.collect::<String>())
    }

    pub fn from_text(text: &str) -> Result<Epochs, String> {
        if text.is_empty() {
            // Kafka creates the file some time before it first has content.
            return Ok(Epochs::default());
        }
        let mut lines = text.lines();
        if lines.next() != Some("0") {
            return Err("unknown version".to_string());
        }
        let count: usize = lines.next().and_then(|l| l.parse().ok()).ok_or("no count of entries")?;
        let mut epochs = Epochs::default();
        for line in lines.by_ref().take(count) {
            let parsed = line.split_once(' ').and_then(|(e, o)| Some((e.parse().ok()?, o.parse().ok()?)));
            let (epoch, start_offset) = parsed.ok_or_else(|| format!("malformed line: {line}"))?;
            epochs.entries.push(EpochEntry { epoch, start_offset });
        }
        let sorted =
            epochs.entries.windows(2).all(|p| p[0].epoch < p[1].epoch && p[0].start_offset <= p[1].start_offset);
        match epochs.entries.len() == count && sorted && lines.next().is_none() {
            true => Ok(epochs),
            false => Err("entries are missing, too many or out of order".to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> Epochs {
        Epochs { entries: entries.iter().map(|&(epoch, start_offset)| EpochEntry { epoch, start_offset }).collect() }
    }

    #[test]
    fn only_a_newer_epoch_is_noted_and_an_empty_one_vanishes() {
        let mut e = Epochs::default();
        assert!(e.assign(0, 0));
        assert!(!e.assign(0, 10) && !e.assign(-1, 10));
        assert!(e.assign(3, 10));
        assert!(e.assign(5, 10), "epoch 3 wrote nothing");
        assert_eq!(e, epochs(&[(0, 0), (5, 10)]));
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let e = epochs(&[(2, 5), (4, 10), (7, 20)]);
        assert_eq!(e.end_offset_for(7, 33), (7, 33));
        assert_eq!(e.end_offset_for(4, 33), (4, 20));
        assert_eq!(e.end_offset_for(6, 33), (4, 20));
        assert_eq!(e.end_offset_for(1, 33), (1, 5));
        assert_eq!(e.end_offset_for(8, 33), (-1, -1));
        assert_eq!(e.end_offset_for(-1, 33), (-1, -1));
        assert_eq!(Epochs::default().end_offset_for(0, 0), (-1, -1));
        assert_eq!([4, 5, 9, 10, 25].map(|o| e.epoch_for_offset(o)), [None, Some(2), Some(2), Some(4), Some(7)]);
    }

    #[test]
    fn truncation_keeps_what_is_left() {
        let all = epochs(&[(2, 5), (4, 10), (7, 20)]);
        let mut e = all.clone();
        assert!(e.truncate_from_end(20) && !e.truncate_from_end(20));
        assert_eq!(e, epochs(&[(2, 5), (4, 10)]));
        let mut e = all.clone();
        assert!(e.truncate_from_start(12) && !e.truncate_from_start(12));
        assert_eq!(e, epochs(&[(4, 12), (7, 20)]));
        let mut e = all;
        assert!(!e.truncate_from_start(3));
    }

    #[test]
    fn the_text_is_kafkas_and_reads_back() {
        let e = epochs(&[(0, 0), (3, 17)]);
        assert_eq!(e.to_text(), "0\n2\n0 0\n3 17\n");
        assert_eq!(Epochs::from_text(&e.to_text()), Ok(e));
        assert_eq!(Epochs::from_text(""), Ok(Epochs::default()));
        for bad in ["1\n0\n", "0\n2\n0 0\n", "0\n1\nx y\n", "0\n2\n3 0\n1 5\n", "0\n0\n1 2\n"] {
            assert!(Epochs::from_text(bad).is_err(), "{bad:?}");
        }
    }
}

//! Leader epochs of one partition and their start offsets (Kafka's LeaderEpochFileCache); pure state plus the text of
//! `leader-epoch-checkpoint`.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    pub epoch: i32,
    pub start_offset: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs {/* private: sorted entries */}

impl Epochs {
    /// Notes that `epoch` starts at `start_offset`, if it is newer than the latest. True if something changed.
    pub fn assign(&mut self, epoch: i32, start_offset: i64) -> bool {
        todo!()
    }
    pub fn latest(&self) -> Option<EpochEntry> {
        todo!()
    }
    pub fn entries(&self) -> &[EpochEntry] {
        todo!()
    }
    /// Kafka's endOffsetFor: (the largest epoch <= `epoch`, the offset where it ends); (-1, -1) if undefined.
    pub fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> (i32, i64) {
        todo!()
    }
    pub fn epoch_for_offset(&self, offset: i64) -> Option<i32> {
        todo!()
    }
    pub fn truncate_from_end(&mut self, end_offset: i64) -> bool {
        todo!()
    }
    pub fn truncate_from_start(&mut self, start_offset: i64) -> bool {
        todo!()
    }
    /// The checkpoint file: "0\n<count>\n<epoch> <start offset>\n...".
    pub fn to_text(&self) -> String {
        todo!()
    }
    pub fn from_text(text: &str) -> Result<Epochs, String> {
        todo!()
    }
}

//! Memory as it is on a machine that has run for a day: what no program uses holds pages of files, and new pages take
//! the place of old ones. Fresh memory would measure the hypervisor, which takes back what is free for some seconds.

use std::fs::{self, File};
use std::num::NonZeroU64;
use std::path::Path;

use anyhow::Result;
use rustix::fs::{Advice, fadvise};
use rustix::system::sysinfo;

const STEP_BYTES: u64 = 2 << 20;
/// When so many have not left less memory free than there was before, pages are taken from other files.
const STEPS_WITHOUT_GAIN: u32 = 64;

/// A file without content, twice as large as the memory, whose pages are read in turn.
pub struct Filler {
    file: File,
    size: u64,
    at: u64,
}

impl Filler {
    pub fn new(dir: &Path) -> Result<Filler> {
        let path = dir.join("filler");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        fs::remove_file(&path)?;
        let memory = sysinfo();
        let size = (2 * memory.totalram * u64::from(memory.mem_unit)).next_multiple_of(STEP_BYTES);
        file.set_len(size)?;
        Ok(Filler { file, size, at: 0 })
    }

    /// Until no memory is unused.
    pub fn fill(&mut self) -> Result<()> {
        let (mut least_free_bytes, mut steps) = (u64::MAX, 0);
        while steps < STEPS_WITHOUT_GAIN {
            fadvise(&self.file, self.at, NonZeroU64::new(STEP_BYTES), Advice::WillNeed)?;
            self.at = (self.at + STEP_BYTES) % self.size;
            let memory = sysinfo();
            let free_bytes = memory.freeram * u64::from(memory.mem_unit);
            steps = if free_bytes < least_free_bytes { 0 } else { steps + 1 };
            least_free_bytes = least_free_bytes.min(free_bytes);
        }
        Ok(())
    }
}

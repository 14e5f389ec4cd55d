//! Memory as it is on a machine that has run for a day: what no program uses holds pages of files, and new pages take
//! the place of old ones. Fresh memory would measure the hypervisor, which takes back what is free for some seconds.

use std::fs::{self, File};
use std::num::NonZeroU64;
use std::path::Path;

use anyhow::Result;
use rustix::fs::{Advice, fadvise};
use rustix::system::sysinfo;

const STEP_BYTES: u64 = 2 << 20;
/// The kernel keeps some of it free.
const LEFT_FREE_BYTES: u64 = 512 << 20;

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
        for _ in 0..self.size / STEP_BYTES {
            let memory = sysinfo();
            if memory.freeram * u64::from(memory.mem_unit) < LEFT_FREE_BYTES {
                break;
            }
            fadvise(&self.file, self.at, NonZeroU64::new(STEP_BYTES), Advice::WillNeed)?;
            self.at = (self.at + STEP_BYTES) % self.size;
        }
        Ok(())
    }
}

//! Memory as it is on a machine that has run for a day: what no program uses holds pages of files, and new pages take
//! the place of old ones. Fresh memory would measure the hypervisor, which takes back what is free for some seconds.
//!
//! Files are read as programs read them, so that the kernel's read-ahead makes their pages, many at a time. Asked for with
//! `fadvise` they would come one by one, and whatever takes their place afterwards would find memory in small pieces.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;
use rustix::system::sysinfo;

const STEP_BYTES: u64 = 2 << 20;
/// When so many have not left less memory free than there was before, pages are taken from other files.
const STEPS_WITHOUT_GAIN: u32 = 64;

/// A file without content, twice as large as the memory, whose pages are read in turn.
pub struct Filler {
    file: File,
    size: u64,
    at: u64,
    buffer: Vec<u8>,
}

impl Filler {
    /// Also reads as much as there is memory: pages of other files that were not used for long go, which a hypervisor may
    /// have taken away from below, too.
    pub fn new(dir: &Path) -> Result<Filler> {
        let path = dir.join("filler");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        fs::remove_file(&path)?;
        let memory = sysinfo();
        let memory_bytes = memory.totalram * u64::from(memory.mem_unit);
        let size = (2 * memory_bytes).next_multiple_of(STEP_BYTES);
        file.set_len(size)?;
        let mut filler = Filler { file, size, at: 0, buffer: vec![0; STEP_BYTES as usize] };
        while filler.at < memory_bytes {
            filler.step()?;
        }
        Ok(filler)
    }

    /// Until no memory is unused.
    pub fn fill(&mut self) -> Result<()> {
        let (mut least_free_bytes, mut steps) = (u64::MAX, 0);
        while steps < STEPS_WITHOUT_GAIN {
            self.step()?;
            let memory = sysinfo();
            let free_bytes = memory.freeram * u64::from(memory.mem_unit);
            steps = if free_bytes < least_free_bytes { 0 } else { steps + 1 };
            least_free_bytes = least_free_bytes.min(free_bytes);
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        self.file.read_exact_at(&mut self.buffer, self.at)?;
        self.at = (self.at + STEP_BYTES) % self.size;
        Ok(())
    }
}

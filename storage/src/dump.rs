//! `ottla dump-log`: a file of a log in words, line for line as Apache Kafka's DumpLogSegments has it. What is wrong with a
//! file is for `verify` to find; what its records mean is nobody's business here.

use std::fmt::Write;
use std::path::Path;

use uuid::Uuid;

use crate::batch::{self, BatchHeader, Record, TransactionMarker};
use crate::checkpoint::uuid_to_base64;
use crate::io::{Io, OpenOptions};
use crate::producers::snapshot_lines;
use crate::segment::parse_file_name;
use crate::verify::{Found, read_batch};
use crate::{Error, Result, offset_index, time_index, txn_index};

/// What a batch may decompress to.
const MAX_RECORDS_BYTES: usize = 1 << 30;

/// DumpLogSegments' options of the same names.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The records too, not only their batches.
    pub deep_iteration: bool,
    /// With their keys and values.
    pub print_data_log: bool,
}

/// Tells the content of a `.log`, `.index`, `.timeindex`, `.txnindex`, `.snapshot` or `.checkpoint` file, line by line.
pub fn dump(path: &Path, options: Options, say: &mut dyn FnMut(&str)) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let base_offset = name.get(..20).and_then(|digits| parse_file_name(digits, ""));
    let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
    let io = Io::plain();
    let read = || io.read_small(path)?.ok_or_else(|| not_there(path));
    let corrupt = |what| Error::corrupt(path, what);
    say(&format!("Dumping {}", path.display()));
    match (suffix, base_offset) {
        ("log", Some(base_offset)) => {
            say(&format!("Log starting offset: {base_offset}"));
            dump_batches(&io, path, &name, options, say)?;
        }
        ("checkpoint", _) => {
            say(&snapshot_title(&name));
            dump_batches(&io, path, &name, options, say)?;
        }
        ("index", Some(base)) => {
            let content = read()?;
            for (i, entry) in content.chunks_exact(offset_index::ENTRY_BYTES).map(offset_index::entry).enumerate() {
                let (relative_offset, position) = entry;
                if i > 0 && relative_offset == 0 {
                    break; // reserved space
                }
                say(&format!("offset: {} position: {position}", base + i64::from(relative_offset)));
            }
            if content.len() < offset_index::ENTRY_BYTES {
                say(&format!("{} is empty.", path.display()));
            }
        }
        ("timeindex", Some(base)) => {
            for (i, entry) in read()?.chunks_exact(time_index::ENTRY_BYTES).map(time_index::entry).enumerate() {
                let (timestamp, relative_offset) = entry;
                if i > 0 && relative_offset == 0 {
                    break; // reserved space
                }
                say(&format!("timestamp: {timestamp} offset: {}", base + i64::from(relative_offset)));
            }
        }
        ("txnindex", Some(_)) => {
            for entry in txn_index::parse(&read()?).map_err(corrupt)? {
                let txn_index::AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset } =
                    entry;
                say(&format!(
                    "version: 0 producerId: {producer_id} firstOffset: {first_offset} lastOffset: {last_offset} \
                     lastStableOffset: {last_stable_offset}"
                ));
            }
        }
        ("snapshot", Some(_)) => snapshot_lines(&read()?).map_err(corrupt)?.iter().for_each(|line| say(line)),
        _ => return Err(Error::corrupt(path, "by its name this is no file of a log")),
    }
    Ok(())
}

fn not_there(path: &Path) -> Error {
    Error::io("read", path, std::io::ErrorKind::NotFound.into())
}

/// Of a snapshot of the metadata: `<end offset>-<epoch>.checkpoint`.
fn snapshot_title(name: &str) -> String {
    let parts = name.strip_suffix(".checkpoint").and_then(|id| id.split_once('-'));
    match parts.and_then(|(offset, epoch)| Some((offset.parse::<i64>().ok()?, epoch.parse::<i32>().ok()?))) {
        Some((offset, epoch)) => format!("Snapshot end offset: {offset}, epoch: {epoch}"),
        None => "KRaft bootstrap snapshot".to_owned(),
    }
}

fn dump_batches(io: &Io, path: &Path, name: &str, options: Options, say: &mut dyn FnMut(&str)) -> Result<()> {
    let file = io.open(path, OpenOptions { read_only: true, ..OpenOptions::default() })?;
    let (len, mut position, mut bytes) = (file.len()?, 0, Vec::new());
    while position < len {
        let (header, valid) = match read_batch(&file, position, len, &mut bytes)? {
            Found::Batch(header) => (header, true),
            Found::Damaged(header, _) => (header, false),
            Found::Nothing(_) => break,
        };
        say(&batch_line(&header, position, valid));
        if options.deep_iteration || options.print_data_log {
            let marker = TransactionMarker::read(&header, &bytes).filter(|_| header.is_control());
            let corrupt = |error: batch::BatchError| Error::corrupt(path, format!("batch at {position}: {error}"));
            let plain = batch::records_bytes(&bytes, MAX_RECORDS_BYTES).map_err(corrupt)?;
            for record in batch::records(&header, &plain) {
                let record = record.map_err(corrupt)?;
                say(&record_line(&header, &record, marker, options.print_data_log).map_err(corrupt)?);
            }
        }
        position += header.total_bytes() as u64;
    }
    if position < len {
        say(&format!("Found {} invalid bytes at the end of {name}", len - position));
    }
    Ok(())
}

fn batch_line(header: &BatchHeader, position: u64, valid: bool) -> String {
    let horizon =
        header.delete_horizon_ms().map_or("OptionalLong.empty".to_owned(), |ms| format!("OptionalLong[{ms}]"));
    format!(
        "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} producerEpoch: {} \
         partitionLeaderEpoch: {} isTransactional: {} isControl: {} deleteHorizonMs: {horizon} position: {position} \
         {:?}: {} size: {} magic: {} compresscodec: {} crc: {} isvalid: {valid}",
        header.base_offset,
        header.last_offset(),
        header.record_count,
        header.base_sequence,
        header.last_sequence(),
        header.producer_id,
        header.producer_epoch,
        header.partition_leader_epoch,
        header.is_transactional(),
        header.is_control(),
        header.timestamp_type(),
        header.max_timestamp,
        header.total_bytes(),
        header.magic,
        header.compression().map_or("unknown".to_owned(), |codec| format!("{codec:?}").to_lowercase()),
        header.crc,
    )
}

fn record_line(
    header: &BatchHeader,
    record: &Record<'_>,
    marker: Option<TransactionMarker>,
    with_data: bool,
) -> std::result::Result<String, batch::BatchError> {
    let size = |field: Option<&[u8]>| field.map_or(-1, |bytes| bytes.len() as i64);
    let delta = (record.offset - header.base_offset) as i32;
    let sequence = if header.base_sequence < 0 { -1 } else { header.base_sequence.wrapping_add(delta) & i32::MAX };
    let keys: Vec<_> = record.header_keys()?.into_iter().map(text).collect();
    let mut line = format!(
        "| offset: {} {:?}: {} keySize: {} valueSize: {} sequence: {sequence} headerKeys: [{}]",
        record.offset,
        header.timestamp_type(),
        record.timestamp,
        size(record.key),
        size(record.value),
        keys.join(",")
    );
    let written = match marker {
        Some(TransactionMarker { commit, coordinator_epoch }) => {
            let kind = if commit { "COMMIT" } else { "ABORT" };
            write!(line, " endTxnMarker: {kind} coordinatorEpoch: {coordinator_epoch}")
        }
        None if header.is_control() => control(&mut line, record.key, record.value),
        None if with_data => [(" key: ", record.key), (" payload: ", record.value)]
            .into_iter()
            .try_for_each(|(name, data)| data.map_or(Ok(()), |data| write!(line, "{name}{}", text(data)))),
        None => Ok(()),
    };
    written.expect("a string takes everything");
    Ok(line)
}

/// Bytes that may be no text, with as many replacement characters as Java has for them: it reads an encoded surrogate as one
/// character that cannot be, Rust as two or three bytes that don't belong there.
fn text(bytes: &[u8]) -> String {
    let (mut text, mut rest) = (String::with_capacity(bytes.len()), bytes);
    while let Some(chunk) = rest.utf8_chunks().next() {
        text.push_str(chunk.valid());
        rest = &rest[chunk.valid().len()..];
        let invalid = match rest {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => 3,
            [0xed, 0xa0..=0xbf, ..] => 2,
            _ => chunk.invalid().len(),
        };
        if invalid > 0 {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        rest = &rest[invalid..];
    }
    text
}

/// Control records of the metadata log, in the words that Kafka has for them.
fn control(line: &mut String, key: Option<&[u8]>, value: Option<&[u8]>) -> std::fmt::Result {
    let kind = key.and_then(|key| key.get(2..)?.first_chunk()).map_or(-1, |kind| i16::from_be_bytes(*kind));
    let text = value.and_then(|value| control_text(kind, &mut Fields(value)));
    match text {
        Some(text) => write!(line, " {text}"),
        None => write!(line, " controlType: {kind}"),
    }
}

fn control_text(kind: i16, fields: &mut Fields<'_>) -> Option<String> {
    let version = i16::from_be_bytes(fields.take()?);
    match kind {
        2 => {
            let leader = i32::from_be_bytes(fields.take()?);
            let (voters, granting) = (fields.voters(version)?, fields.voters(version)?);
            let ids = format!(r#""leaderId":{leader},"voters":[{voters}],"grantingVoters":[{granting}]"#);
            Some(format!(r#"LeaderChange: {{"version":{version},{ids}}}"#))
        }
        3 => {
            let timestamp = i64::from_be_bytes(fields.take()?);
            Some(format!(r#"SnapshotHeader {{"version":{version},"lastContainedLogTimestamp":{timestamp}}}"#))
        }
        4 => Some(format!(r#"SnapshotFooter {{"version":{version}}}"#)),
        5 => {
            let kraft = i16::from_be_bytes(fields.take()?);
            Some(format!(r#"KRaftVersion {{"version":{version},"kRaftVersion":{kraft}}}"#))
        }
        6 => {
            let voters = fields.array(Fields::voter)?;
            Some(format!(r#"KRaftVoters {{"version":{version},"voters":[{voters}]}}"#))
        }
        _ => None,
    }
}

/// The rest of a control record's value.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    /// Items in JSON, separated by commas. Fewer than 127, none of which has tagged fields: what there is in practice.
    fn array(&mut self, item: impl Fn(&mut Self) -> Option<String>) -> Option<String> {
        let [count_and_one @ 1..0x80] = self.take()? else { return None };
        let mut items = Vec::new();
        for _ in 1..count_and_one {
            items.push(item(self)?);
            let [0] = self.take()? else { return None };
        }
        Some(items.join(","))
    }

    fn id(&mut self) -> Option<String> {
        Some(format!(r#""voterId":{}"#, i32::from_be_bytes(self.take()?)))
    }

    fn directory(&mut self) -> Option<String> {
        Some(format!(r#""voterDirectoryId":"{}""#, uuid_to_base64(Uuid::from_bytes(self.take()?))))
    }

    fn string(&mut self) -> Option<String> {
        let [len_and_one @ 1..0x80] = self.take()? else { return None };
        let (bytes, rest) = self.0.split_at_checked(usize::from(len_and_one) - 1)?;
        self.0 = rest;
        Some(text(bytes))
    }

    /// Of a LeaderChangeMessage.
    fn voters(&mut self, version: i16) -> Option<String> {
        self.array(|fields| match version {
            0 => Some(format!("{{{}}}", fields.id()?)),
            _ => Some(format!("{{{},{}}}", fields.id()?, fields.directory()?)),
        })
    }

    /// Of a VotersRecord.
    fn voter(&mut self) -> Option<String> {
        let (id, directory, endpoints) = (self.id()?, self.directory()?, self.array(Fields::endpoint)?);
        let [min, max] = [self.take()?, self.take()?].map(i16::from_be_bytes);
        let [0] = self.take()? else { return None };
        let feature = format!(r#"{{"minSupportedVersion":{min},"maxSupportedVersion":{max}}}"#);
        Some(format!(r#"{{{id},{directory},"endpoints":[{endpoints}],"kRaftVersionFeature":{feature}}}"#))
    }

    fn endpoint(&mut self) -> Option<String> {
        let (name, host, port) = (self.string()?, self.string()?, u16::from_be_bytes(self.take()?));
        Some(format!(r#"{{"name":"{name}","host":"{host}","port":{port}}}"#))
    }
}

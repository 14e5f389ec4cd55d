//! Incremental fetch sessions (KIP-227): what a consumer fetches is remembered between its requests, so that requests
//! carry only what changes and answers only what is new. State only; reading is done elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::ErrorCode;
use crate::protocol::fetch::{FetchPartition, PartitionData, TopicKey};

/// "No session": of clients that want none or get none.
pub const NO_SESSION: i32 = 0;
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// A session that was idle for longer gives way to a new one; and only one that has lived for longer gives way to a
/// larger one.
const EVICTION_MS: i64 = 120_000;

/// All sessions together take no more than about so much memory; beyond it clients go on without sessions.
const MAX_BYTES: usize = 64 << 20;
/// Of one partition in a session, its key twice, without the topic's name.
const PARTITION_BYTES: usize = 256;

type Key = (TopicKey, i32);

/// How a request is answered: whether, and as part of which session.
#[derive(Debug)]
pub enum Context {
    Sessionless,
    /// All partitions are answered, and a session starts with the answer if there is room.
    Full {
        uses_topic_ids: bool,
    },
    Incremental {
        session: Arc<Mutex<Session>>,
        id: i32,
        /// The session's epoch after this request; another means that somebody else has used it meanwhile.
        epoch: i32,
    },
}

/// The partitions of one consumer, in the order in which they are read: those that had records go to the end.
#[derive(Debug)]
pub struct Session {
    uses_topic_ids: bool,
    epoch: i32,
    next_place: u64,
    places: HashMap<Key, u64>,
    partitions: BTreeMap<u64, CachedPartition>,
    bytes: usize,
}

#[derive(Debug)]
struct CachedPartition {
    request: FetchPartition,
    high_watermark: i64,
    log_start_offset: i64,
}

impl Session {
    fn new(uses_topic_ids: bool) -> Session {
        let epoch = next_epoch(INITIAL_EPOCH);
        let (places, partitions) = (HashMap::new(), BTreeMap::new());
        Session { uses_topic_ids, epoch, next_place: 0, places, partitions, bytes: 0 }
    }

    fn add(&mut self, request: FetchPartition, high_watermark: i64, log_start_offset: i64) {
        let key = (request.topic.clone(), request.index);
        let bytes = partition_bytes(&key);
        let cached = CachedPartition { request, high_watermark, log_start_offset };
        match self.places.insert(key, self.next_place) {
            Some(place) => drop(self.partitions.remove(&place)),
            None => self.bytes += bytes,
        }
        self.partitions.insert(self.next_place, cached);
        self.next_place += 1;
    }

    /// Takes over what a request changes.
    fn update(&mut self, changed: Vec<FetchPartition>, forgotten: Vec<Key>) {
        for request in changed {
            let key = (request.topic.clone(), request.index);
            match self.places.get(&key).and_then(|place| self.partitions.get_mut(place)) {
                Some(cached) => cached.request = request,
                None => self.add(request, -1, -1),
            }
        }
        for key in forgotten {
            if let Some(place) = self.places.remove(&key) {
                self.partitions.remove(&place);
                self.bytes -= partition_bytes(&key);
            }
        }
    }

    /// Notes what is answered; false if the client knows it all already.
    fn must_answer(&mut self, request: &FetchPartition, data: &PartitionData) -> bool {
        let key = (request.topic.clone(), request.index);
        let Some(place) = self.places.get_mut(&key) else { return true };
        let Some(cached) = self.partitions.get_mut(place) else { return true };
        let changed = cached.high_watermark != data.high_watermark || cached.log_start_offset != data.log_start_offset;
        cached.log_start_offset = data.log_start_offset;
        // After an error the partition is answered again, even if it then stands as it stood before.
        cached.high_watermark = if data.error_code == 0 { data.high_watermark } else { -1 };
        let has_records = data.records.bytes > 0;
        if has_records && let Some(cached) = self.partitions.remove(place) {
            *place = self.next_place;
            self.partitions.insert(self.next_place, cached);
            self.next_place += 1;
        }
        changed || has_records || data.error_code != 0 || data.diverging_epoch.is_some()
    }
}

fn partition_bytes((topic, _): &Key) -> usize {
    match topic {
        TopicKey::Name(name) => PARTITION_BYTES + name.len(),
        TopicKey::Id(_) => PARTITION_BYTES,
    }
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

/// All sessions of the broker.
#[derive(Debug)]
pub struct SessionCache {
    max_sessions: usize,
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<i32, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    session: Arc<Mutex<Session>>,
    created_ms: i64,
    last_used_ms: i64,
    partitions: usize,
    bytes: usize,
}

impl SessionCache {
    /// `max_sessions`: max.incremental.fetch.session.cache.slots.
    pub fn new(max_sessions: usize) -> SessionCache {
        SessionCache { max_sessions, max_bytes: MAX_BYTES, state: Mutex::default() }
    }

    /// The first half of a request: finds or closes its session and says what to read, in order.
    pub fn open(
        &self,
        (id, epoch): (i32, i32),
        uses_topic_ids: bool,
        requested: Vec<FetchPartition>,
        forgotten: Vec<Key>,
        now_ms: i64,
    ) -> Result<(Context, Vec<FetchPartition>), ErrorCode> {
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            self.state.lock().remove(id);
            let context = if epoch == FINAL_EPOCH { Context::Sessionless } else { Context::Full { uses_topic_ids } };
            return Ok((context, requested));
        }
        let found = self.state.lock().sessions.get(&id).map(|entry| entry.session.clone());
        let shared = found.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let mut session = shared.lock();
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.update(requested, forgotten);
        if session.partitions.is_empty() {
            self.state.lock().remove(id);
            return Ok((Context::Sessionless, Vec::new()));
        }
        if !self.state.lock().touch(id, &session, now_ms, self.max_bytes) {
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        session.epoch = next_epoch(epoch);
        let epoch = session.epoch;
        let partitions = session.partitions.values().map(|cached| cached.request.clone()).collect();
        drop(session);
        Ok((Context::Incremental { session: shared, id, epoch }, partitions))
    }

    /// The second half: leaves out of `answers` what the client knows, and says the session's id to answer.
    pub fn finish(
        &self,
        context: &Context,
        answers: &mut Vec<(FetchPartition, PartitionData)>,
        now_ms: i64,
    ) -> Result<i32, (ErrorCode, i32)> {
        match context {
            Context::Sessionless => Ok(NO_SESSION),
            Context::Full { uses_topic_ids } => Ok(self.create(*uses_topic_ids, answers, now_ms)),
            Context::Incremental { session, id, epoch } => {
                let mut session = session.lock();
                if session.epoch != *epoch {
                    return Err((ErrorCode::InvalidFetchSessionEpoch, *id));
                }
                answers.retain(|(request, data)| session.must_answer(request, data));
                Ok(*id)
            }
        }
    }

    /// A new session over what was just answered, if there is room or a less valuable one to evict.
    fn create(&self, uses_topic_ids: bool, answers: &[(FetchPartition, PartitionData)], now_ms: i64) -> i32 {
        let mut session = Session::new(uses_topic_ids);
        for (request, data) in answers {
            session.add(request.clone(), data.high_watermark, data.log_start_offset);
        }
        let (partitions, bytes) = (session.partitions.len(), session.bytes);
        let mut state = self.state.lock();
        if state.sessions.len() >= self.max_sessions && !state.evict_for(partitions, now_ms) {
            return NO_SESSION;
        }
        if state.bytes + bytes > self.max_bytes {
            return NO_SESSION;
        }
        let id = state.unused_id();
        let session = Arc::new(Mutex::new(session));
        state.bytes += bytes;
        state.sessions.insert(id, Entry { session, created_ms: now_ms, last_used_ms: now_ms, partitions, bytes });
        id
    }
}

impl State {
    fn remove(&mut self, id: i32) {
        if let Some(entry) = self.sessions.remove(&id) {
            self.bytes -= entry.bytes;
        }
    }

    /// Notes a use and the size after it; false if that is too much for the cache, and the session is gone.
    fn touch(&mut self, id: i32, session: &Session, now_ms: i64, max_bytes: usize) -> bool {
        let Some(entry) = self.sessions.get_mut(&id) else { return true };
        self.bytes = self.bytes - entry.bytes + session.bytes;
        (entry.bytes, entry.partitions, entry.last_used_ms) = (session.bytes, session.partitions.len(), now_ms);
        let fits = self.bytes <= max_bytes;
        if !fits {
            self.remove(id);
        }
        fits
    }

    /// Makes room for a session of `partitions`: the least recently used one goes if it is idle for long, else the
    /// smallest of the old ones if it is smaller than the new one.
    fn evict_for(&mut self, partitions: usize, now_ms: i64) -> bool {
        let oldest = self.sessions.iter().min_by_key(|(id, entry)| (entry.last_used_ms, **id));
        let idle = oldest.filter(|(_, entry)| now_ms - entry.last_used_ms > EVICTION_MS);
        let smallest = || {
            let old = self.sessions.iter().filter(|(_, e)| e.last_used_ms - e.created_ms > EVICTION_MS);
            old.min_by_key(|(id, entry)| (entry.partitions, **id)).filter(|(_, entry)| entry.partitions < partitions)
        };
        let Some(id) = idle.or_else(smallest).map(|(id, _)| *id) else { return false };
        self.remove(id);
        true
    }

    /// Not to be guessed, so that no client meets another's session by accident.
    fn unused_id(&self) -> i32 {
        loop {
            let id = (uuid::Uuid::new_v4().as_u128() as u32 >> 1) as i32;
            if id != NO_SESSION && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ottla_storage::log::LogRead;

    use super::*;

    const NOW: i64 = 1_000_000;

    fn want(index: i32, fetch_offset: i64) -> FetchPartition {
        let topic = TopicKey::Name("t".into());
        FetchPartition {
            topic,
            index,
            current_leader_epoch: -1,
            fetch_offset,
            last_fetched_epoch: -1,
            max_bytes: 1 << 20,
        }
    }

    fn stands_at(high_watermark: i64) -> PartitionData {
        PartitionData { high_watermark, log_start_offset: 0, ..PartitionData::failed(0) }
    }

    fn with_records(high_watermark: i64) -> PartitionData {
        PartitionData { records: LogRead { bytes: 10, ..LogRead::default() }, ..stands_at(high_watermark) }
    }

    fn indexes(partitions: &[FetchPartition]) -> Vec<i32> {
        partitions.iter().map(|p| p.index).collect()
    }

    /// A request as the broker handles it; answers (session id, partitions answered).
    fn fetch(
        cache: &SessionCache,
        session: (i32, i32),
        requested: Vec<FetchPartition>,
        data: impl Fn(i32) -> PartitionData,
    ) -> Result<(i32, Vec<i32>), ErrorCode> {
        let (context, partitions) = cache.open(session, false, requested, Vec::new(), NOW)?;
        let mut answers = partitions.into_iter().map(|p| (p.clone(), data(p.index))).collect();
        let id = cache.finish(&context, &mut answers, NOW).map_err(|(code, _)| code)?;
        Ok((id, answers.iter().map(|(p, _)| p.index).collect()))
    }

    fn new_session(cache: &SessionCache, partitions: i32, now_ms: i64) -> i32 {
        let requested = (0..partitions).map(|index| want(index, 0)).collect();
        let (context, partitions) = cache.open((0, 0), false, requested, Vec::new(), now_ms).unwrap();
        let mut answers = partitions.into_iter().map(|p| (p, stands_at(0))).collect();
        cache.finish(&context, &mut answers, now_ms).unwrap()
    }

    #[test]
    fn clients_that_want_no_session_get_none() {
        let cache = SessionCache::new(10);
        assert_eq!(fetch(&cache, (0, -1), vec![want(0, 0)], |_| stands_at(0)), Ok((0, vec![0])));
        assert!(cache.state.lock().sessions.is_empty());
    }

    #[test]
    fn an_incremental_answer_leaves_out_what_has_not_changed() {
        let cache = SessionCache::new(10);
        let (id, all) = fetch(&cache, (0, 0), vec![want(0, 0), want(1, 0)], |_| stands_at(5)).unwrap();
        assert_eq!(all, [0, 1]);
        assert_eq!(fetch(&cache, (id, 1), vec![], |_| stands_at(5)), Ok((id, vec![])));
        assert_eq!(fetch(&cache, (id, 2), vec![], |i| stands_at(5 + i64::from(i))), Ok((id, vec![1])));
        assert_eq!(fetch(&cache, (id, 3), vec![want(2, 0)], |i| stands_at(5 + i64::from(i))), Ok((id, vec![2])));
    }

    #[test]
    fn errors_are_always_answered_and_so_is_what_follows_them() {
        let cache = SessionCache::new(10);
        let (id, _) = fetch(&cache, (0, 0), vec![want(0, 0)], |_| stands_at(5)).unwrap();
        assert_eq!(fetch(&cache, (id, 1), vec![], |_| PartitionData::failed(3)), Ok((id, vec![0])));
        assert_eq!(fetch(&cache, (id, 2), vec![], |_| PartitionData::failed(3)), Ok((id, vec![0])));
        assert_eq!(fetch(&cache, (id, 3), vec![], |_| stands_at(5)), Ok((id, vec![0])));
        assert_eq!(fetch(&cache, (id, 4), vec![], |_| stands_at(5)), Ok((id, vec![])));
    }

    #[test]
    fn partitions_that_had_records_are_read_last_next_time() {
        let cache = SessionCache::new(10);
        let three = vec![want(0, 0), want(1, 0), want(2, 0)];
        let (id, _) = fetch(&cache, (0, 0), three, |_| stands_at(0)).unwrap();
        let first_has_records = |i| if i == 0 { with_records(1) } else { stands_at(0) };
        assert_eq!(fetch(&cache, (id, 1), vec![], first_has_records), Ok((id, vec![0])));
        let (_, order) = cache.open((id, 2), false, vec![], vec![], NOW).unwrap();
        assert_eq!(indexes(&order), [1, 2, 0]);
    }

    #[test]
    fn a_request_changes_adds_and_forgets_partitions() {
        let cache = SessionCache::new(10);
        let (id, _) = fetch(&cache, (0, 0), vec![want(0, 0), want(1, 0)], |_| stands_at(0)).unwrap();
        let forgotten = vec![(TopicKey::Name("t".into()), 0)];
        let (_, now) = cache.open((id, 1), false, vec![want(1, 7), want(2, 0)], forgotten, NOW).unwrap();
        assert_eq!(now, [want(1, 7), want(2, 0)]);
    }

    #[test]
    fn a_session_without_partitions_ends() {
        let cache = SessionCache::new(10);
        let id = new_session(&cache, 1, NOW);
        let forgotten = vec![(TopicKey::Name("t".into()), 0)];
        let (context, partitions) = cache.open((id, 1), false, vec![], forgotten, NOW).unwrap();
        assert!(matches!(context, Context::Sessionless) && partitions.is_empty());
        assert_eq!(fetch(&cache, (id, 2), vec![], |_| stands_at(0)), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(cache.state.lock().bytes, 0);
    }

    #[test]
    fn wrong_ids_epochs_and_ways_to_name_topics_are_refused() {
        let cache = SessionCache::new(10);
        let id = new_session(&cache, 1, NOW);
        assert_eq!(fetch(&cache, (id ^ 1, 1), vec![], |_| stands_at(0)), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(fetch(&cache, (id, 2), vec![], |_| stands_at(0)), Err(ErrorCode::InvalidFetchSessionEpoch));
        let with_ids = cache.open((id, 1), true, vec![], vec![], NOW).err();
        assert_eq!(with_ids, Some(ErrorCode::FetchSessionTopicIdError));
        assert_eq!(fetch(&cache, (id, 1), vec![], |_| stands_at(0)), Ok((id, vec![])));
        assert_eq!(fetch(&cache, (id, 1), vec![], |_| stands_at(0)), Err(ErrorCode::InvalidFetchSessionEpoch));
    }

    #[test]
    fn an_answer_that_another_request_overtook_is_an_epoch_error() {
        let cache = SessionCache::new(10);
        let id = new_session(&cache, 1, NOW);
        let (slow, _) = cache.open((id, 1), false, vec![], vec![], NOW).unwrap();
        cache.open((id, 2), false, vec![], vec![], NOW).unwrap();
        let answer = cache.finish(&slow, &mut Vec::new(), NOW);
        assert_eq!(answer, Err((ErrorCode::InvalidFetchSessionEpoch, id)));
    }

    #[test]
    fn a_full_request_closes_the_session_it_names() {
        let cache = SessionCache::new(10);
        for epoch in [-1, 0] {
            let id = new_session(&cache, 1, NOW);
            cache.open((id, epoch), false, vec![want(0, 0)], vec![], NOW).unwrap();
            assert_eq!(fetch(&cache, (id, 1), vec![], |_| stands_at(0)), Err(ErrorCode::FetchSessionIdNotFound));
        }
    }

    #[test]
    fn epochs_wrap_to_one() {
        assert_eq!(next_epoch(i32::MAX), 1);
    }

    #[test]
    fn a_full_cache_evicts_the_idle_and_the_old_that_are_smaller() {
        let cache = SessionCache::new(2);
        let (small, large) = (new_session(&cache, 1, NOW), new_session(&cache, 3, NOW));
        assert!(small != NO_SESSION && large != NO_SESSION);
        assert_eq!(new_session(&cache, 9, NOW), NO_SESSION, "both are young and in use");

        let later = NOW + EVICTION_MS + 1;
        cache.open((small, 1), false, vec![], vec![], later).unwrap();
        cache.open((large, 1), false, vec![], vec![], later).unwrap();
        assert_eq!(new_session(&cache, 1, later), NO_SESSION, "not larger than the smallest");
        let larger = new_session(&cache, 2, later);
        assert_ne!(larger, NO_SESSION);
        assert!(!cache.state.lock().sessions.contains_key(&small));

        let much_later = later + EVICTION_MS + 1;
        cache.open((larger, 1), false, vec![], vec![], much_later).unwrap();
        assert_ne!(new_session(&cache, 1, much_later), NO_SESSION);
        assert!(!cache.state.lock().sessions.contains_key(&large), "idle for more than two minutes");
    }

    #[test]
    fn memory_is_bounded_whatever_clients_name() {
        let cache = SessionCache { max_bytes: 1 << 20, ..SessionCache::new(1000) };
        let long_name = |index: i32| {
            let topic = TopicKey::Name("x".repeat(30_000).into());
            FetchPartition { topic, ..want(index, 0) }
        };
        let id = new_session(&cache, 1, NOW);
        let flood = (0..40).map(long_name).collect();
        assert_eq!(fetch(&cache, (id, 1), flood, |_| stands_at(0)), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(cache.state.lock().bytes, 0);
    }
}

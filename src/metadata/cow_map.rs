//! A sorted map whose clones share what they have in common: an image of ten thousand topics is copied in a microsecond
//! or two, and a change copies one small chunk. Nothing of metadata's meaning.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

/// Entries a chunk may hold before it is split in two.
const CHUNK_ENTRIES: usize = 64;

/// Chunks are sorted, never empty, and shared between clones until one of them changes it.
#[derive(Clone, Debug)]
pub struct CowMap<K, V> {
    chunks: Arc<Vec<Chunk<K, V>>>,
}

type Chunk<K, V> = Arc<Vec<(K, V)>>;

impl<K, V> Default for CowMap<K, V> {
    fn default() -> CowMap<K, V> {
        CowMap { chunks: Arc::new(Vec::new()) }
    }
}

impl<K: Ord + Clone, V: Clone> CowMap<K, V> {
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_by(|k| k.borrow().cmp(key))
    }

    /// For keys that cannot be borrowed as what is looked for: `order` compares an entry's key with it.
    pub fn get_by(&self, order: impl Fn(&K) -> Ordering) -> Option<&V> {
        let chunk = &self.chunks[self.chunk_of(&order)?];
        let at = chunk.binary_search_by(|(k, _)| order(k)).ok()?;
        Some(&chunk[at].1)
    }

    pub fn insert(&mut self, key: K, value: V) {
        let Some(index) = self.chunk_of(|k| k.cmp(&key)).or(if self.chunks.is_empty() { None } else { Some(0) }) else {
            self.chunks = Arc::new(vec![Arc::new(vec![(key, value)])]);
            return;
        };
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[index]);
        match chunk.binary_search_by(|(k, _)| k.cmp(&key)) {
            Ok(at) => chunk[at].1 = value,
            Err(at) => chunk.insert(at, (key, value)),
        }
        if chunk.len() > CHUNK_ENTRIES {
            let upper = chunk.split_off(CHUNK_ENTRIES / 2);
            chunks.insert(index + 1, Arc::new(upper));
        }
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.remove_by(|k| k.borrow().cmp(key))
    }

    pub fn remove_by(&mut self, order: impl Fn(&K) -> Ordering) -> Option<V> {
        let index = self.chunk_of(&order)?;
        let at = self.chunks[index].binary_search_by(|(k, _)| order(k)).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[index]);
        let (_, value) = chunk.remove(at);
        if chunk.is_empty() {
            chunks.remove(index);
        }
        Some(value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().map(|(k, v)| (k, v)))
    }

    /// The only chunk that can hold the key: the last one that does not start after it.
    fn chunk_of(&self, order: impl Fn(&K) -> Ordering) -> Option<usize> {
        self.chunks.partition_point(|chunk| order(&chunk[0].0) != Ordering::Greater).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_btree_map(operations in prop::collection::vec((any::<bool>(), 0u16..400), 0..1500)) {
            let (mut map, mut model) = (CowMap::default(), BTreeMap::new());
            for (step, (insert, key)) in operations.into_iter().enumerate() {
                if insert {
                    map.insert(key, step);
                    model.insert(key, step);
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(map.get(&key), model.get(&key));
            }
            prop_assert!(map.iter().eq(model.iter()));
        }
    }

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut map = CowMap::default();
        (0..500).for_each(|n| map.insert(n, n));
        let before = map.clone();
        map.remove(&250);
        map.insert(1000, 1);
        assert_eq!(before.iter().count(), 500);
        assert_eq!(before.get(&250), Some(&250));
        assert_eq!((map.get(&250), map.get(&1000)), (None, Some(&1)));
    }
}

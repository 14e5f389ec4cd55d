//! Fetch state that outlives a request: incremental sessions (KIP-227) and long polls.

pub struct SessionCache {/* private */}

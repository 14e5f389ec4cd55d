//! The classic protocol: members join, their leader assigns partitions, all of them sync. `group.rs` is one group's
//! members and rules; `join.rs`, `sync.rs` and `members.rs` are the requests and timers.

mod group;
mod join;
mod members;
mod sync;

pub use group::{ClassicGroup, ClassicMemberState, RetentionFrom, State};
pub use join::Joining;
pub(super) use members::leave_response;

use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};

use super::embedded::text;
use crate::error::ErrorCode;

/// A new member that has been told to wait gets so long before it is given up.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 300_000;

const NO_GENERATION: i32 = -1;

pub(super) fn join_error(member: &str, code: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_member_id(text(member))
        .with_generation_id(NO_GENERATION)
        .with_error_code(code.code())
}

pub(super) fn sync_error(code: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(code.code())
}

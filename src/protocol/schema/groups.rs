//! The requests of the group coordinator.

use super::*;

pub static OFFSET_COMMIT: Schema = Schema::new(
    "OffsetCommit",
    8,
    &[
        string("GroupId"),
        int32("GenerationIdOrMemberEpoch"),
        string("MemberId"),
        string("GroupInstanceId").since(7),
        int64("RetentionTimeMs").until(4),
        array(
            "Topics",
            &[
                string("Name").until(9),
                uuid("TopicId").since(10),
                array(
                    "Partitions",
                    &[
                        int32("PartitionIndex"),
                        int64("CommittedOffset"),
                        int32("CommittedLeaderEpoch").since(6),
                        string("CommittedMetadata"),
                    ],
                ),
            ],
        ),
    ],
);

pub static OFFSET_FETCH: Schema = Schema::new(
    "OffsetFetch",
    6,
    &[
        string("GroupId").until(7),
        array("Topics", &[string("Name"), int32_array("PartitionIndexes")]).until(7),
        array(
            "Groups",
            &[
                string("GroupId"),
                string("MemberId").since(9),
                int32("MemberEpoch").since(9),
                array("Topics", &[string("Name").until(9), uuid("TopicId").since(10), int32_array("PartitionIndexes")]),
            ],
        )
        .since(8),
        boolean("RequireStable").since(7),
    ],
);

pub static FIND_COORDINATOR: Schema = Schema::new(
    "FindCoordinator",
    3,
    &[string("Key").until(3), int8("KeyType").since(1), string_array("CoordinatorKeys").since(4)],
);

pub static JOIN_GROUP: Schema = Schema::new(
    "JoinGroup",
    6,
    &[
        string("GroupId"),
        int32("SessionTimeoutMs"),
        int32("RebalanceTimeoutMs").since(1),
        string("MemberId"),
        string("GroupInstanceId").since(5),
        string("ProtocolType"),
        array("Protocols", &[string("Name"), bytes("Metadata")]),
        string("Reason").since(8),
    ],
);

pub static HEARTBEAT: Schema = Schema::new(
    "Heartbeat",
    4,
    &[string("GroupId"), int32("GenerationId"), string("MemberId"), string("GroupInstanceId").since(3)],
);

pub static LEAVE_GROUP: Schema = Schema::new(
    "LeaveGroup",
    4,
    &[
        string("GroupId"),
        string("MemberId").until(2),
        array("Members", &[string("MemberId"), string("GroupInstanceId"), string("Reason").since(5)]).since(3),
    ],
);

pub static SYNC_GROUP: Schema = Schema::new(
    "SyncGroup",
    4,
    &[
        string("GroupId"),
        int32("GenerationId"),
        string("MemberId"),
        string("GroupInstanceId").since(3),
        string("ProtocolType").since(5),
        string("ProtocolName").since(5),
        array("Assignments", &[string("MemberId"), bytes("Assignment")]),
    ],
);

pub static DESCRIBE_GROUPS: Schema =
    Schema::new("DescribeGroups", 5, &[string_array("Groups"), boolean("IncludeAuthorizedOperations").since(3)]);

pub static LIST_GROUPS: Schema =
    Schema::new("ListGroups", 3, &[string_array("StatesFilter").since(4), string_array("TypesFilter").since(5)]);

pub static DELETE_GROUPS: Schema = Schema::new("DeleteGroups", 2, &[string_array("GroupsNames")]);

pub static OFFSET_DELETE: Schema = Schema::new(
    "OffsetDelete",
    i16::MAX,
    &[string("GroupId"), array("Topics", &[string("Name"), array("Partitions", &[int32("PartitionIndex")])])],
);

pub static CONSUMER_GROUP_HEARTBEAT: Schema = Schema::new(
    "ConsumerGroupHeartbeat",
    0,
    &[
        string("GroupId"),
        string("MemberId"),
        int32("MemberEpoch"),
        string("InstanceId"),
        string("RackId"),
        int32("RebalanceTimeoutMs"),
        string_array("SubscribedTopicNames"),
        string("SubscribedTopicRegex").since(1),
        string("ServerAssignor"),
        array("TopicPartitions", &[uuid("TopicId"), int32_array("Partitions")]),
    ],
);

pub static CONSUMER_GROUP_DESCRIBE: Schema =
    Schema::new("ConsumerGroupDescribe", 0, &[string_array("GroupIds"), boolean("IncludeAuthorizedOperations")]);

//! The shape of every request that the table serves: fields, the versions that carry them, where tagged fields begin.
//! No decoding: `guard` walks these before kafka-protocol builds anything. A new API adds one const here.

mod groups;
mod transactions;

pub use groups::*;
pub use transactions::*;

/// One request.
#[derive(Debug)]
pub struct Schema {
    pub name: &'static str,
    /// From this version on lengths are varints and every structure ends with tagged fields.
    pub flexible_from: i16,
    pub fields: &'static [Field],
}

impl Schema {
    const fn new(name: &'static str, flexible_from: i16, fields: &'static [Field]) -> Schema {
        Schema { name, flexible_from, fields }
    }

    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }
}

#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub first_version: i16,
    pub last_version: i16,
    /// Set: not in sequence, but among the tagged fields.
    pub tag: Option<u32>,
}

/// What a field looks like on the wire. Null is let through everywhere: the decoder knows where it may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// So many bytes.
    Fixed(usize),
    String,
    Bytes,
    FixedArray(usize),
    StringArray,
    Array(&'static [Field]),
    Struct(&'static [Field]),
    NullableStruct(&'static [Field]),
}

impl Field {
    const fn new(name: &'static str, kind: Kind) -> Field {
        Field { name, kind, first_version: 0, last_version: i16::MAX, tag: None }
    }

    const fn since(self, version: i16) -> Field {
        Field { first_version: version, ..self }
    }

    const fn until(self, version: i16) -> Field {
        Field { last_version: version, ..self }
    }

    const fn tag(self, tag: u32) -> Field {
        Field { tag: Some(tag), ..self }
    }

    pub fn is_in(&self, version: i16) -> bool {
        (self.first_version..=self.last_version).contains(&version)
    }
}

const fn boolean(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(1))
}
const fn int8(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(1))
}
const fn int16(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(2))
}
const fn int32(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(4))
}
const fn int64(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(8))
}
const fn uuid(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(16))
}
const fn string(name: &'static str) -> Field {
    Field::new(name, Kind::String)
}
const fn bytes(name: &'static str) -> Field {
    Field::new(name, Kind::Bytes)
}
const fn int32_array(name: &'static str) -> Field {
    Field::new(name, Kind::FixedArray(4))
}
const fn string_array(name: &'static str) -> Field {
    Field::new(name, Kind::StringArray)
}
const fn array(name: &'static str, fields: &'static [Field]) -> Field {
    Field::new(name, Kind::Array(fields))
}
const fn structure(name: &'static str, fields: &'static [Field]) -> Field {
    Field::new(name, Kind::Struct(fields))
}
const fn nullable_struct(name: &'static str, fields: &'static [Field]) -> Field {
    Field::new(name, Kind::NullableStruct(fields))
}

pub static PRODUCE: Schema = Schema::new(
    "Produce",
    9,
    &[
        string("TransactionalId"),
        int16("Acks"),
        int32("TimeoutMs"),
        array(
            "TopicData",
            &[
                string("Name").until(12),
                uuid("TopicId").since(13),
                array("PartitionData", &[int32("Index"), bytes("Records")]),
            ],
        ),
    ],
);

pub static FETCH: Schema = Schema::new(
    "Fetch",
    12,
    &[
        string("ClusterId").since(12).tag(0),
        int32("ReplicaId").until(14),
        structure("ReplicaState", &[int32("ReplicaId").since(15), int64("ReplicaEpoch").since(15)]).since(15).tag(1),
        int32("MaxWaitMs"),
        int32("MinBytes"),
        int32("MaxBytes"),
        int8("IsolationLevel"),
        int32("SessionId").since(7),
        int32("SessionEpoch").since(7),
        array(
            "Topics",
            &[
                string("Topic").until(12),
                uuid("TopicId").since(13),
                array(
                    "Partitions",
                    &[
                        int32("Partition"),
                        int32("CurrentLeaderEpoch").since(9),
                        int64("FetchOffset"),
                        int32("LastFetchedEpoch").since(12),
                        int64("LogStartOffset").since(5),
                        int32("PartitionMaxBytes"),
                        uuid("ReplicaDirectoryId").since(17).tag(0),
                        int64("HighWatermark").since(18).tag(1),
                    ],
                ),
            ],
        ),
        array(
            "ForgottenTopicsData",
            &[string("Topic").since(7).until(12), uuid("TopicId").since(13), int32_array("Partitions").since(7)],
        )
        .since(7),
        string("RackId").since(11),
    ],
);

pub static LIST_OFFSETS: Schema = Schema::new(
    "ListOffsets",
    6,
    &[
        int32("ReplicaId"),
        int8("IsolationLevel").since(2),
        array(
            "Topics",
            &[
                string("Name"),
                array(
                    "Partitions",
                    &[int32("PartitionIndex"), int32("CurrentLeaderEpoch").since(4), int64("Timestamp")],
                ),
            ],
        ),
        int32("TimeoutMs").since(10),
    ],
);

pub static METADATA: Schema = Schema::new(
    "Metadata",
    9,
    &[
        array("Topics", &[uuid("TopicId").since(10), string("Name")]),
        boolean("AllowAutoTopicCreation").since(4),
        boolean("IncludeClusterAuthorizedOperations").since(8).until(10),
        boolean("IncludeTopicAuthorizedOperations").since(8),
    ],
);

pub static API_VERSIONS: Schema = Schema::new(
    "ApiVersions",
    3,
    &[
        string("ClientSoftwareName").since(3),
        string("ClientSoftwareVersion").since(3),
        string("ClusterId").since(5),
        int32("NodeId").since(5),
    ],
);

pub static CREATE_TOPICS: Schema = Schema::new(
    "CreateTopics",
    5,
    &[
        array(
            "Topics",
            &[
                string("Name"),
                int32("NumPartitions"),
                int16("ReplicationFactor"),
                array("Assignments", &[int32("PartitionIndex"), int32_array("BrokerIds")]),
                array("Configs", &[string("Name"), string("Value")]),
            ],
        ),
        int32("TimeoutMs"),
        boolean("ValidateOnly"),
    ],
);

pub static DELETE_TOPICS: Schema = Schema::new(
    "DeleteTopics",
    4,
    &[
        array("Topics", &[string("Name").since(6), uuid("TopicId").since(6)]).since(6),
        string_array("TopicNames").until(5),
        int32("TimeoutMs"),
    ],
);

pub static DELETE_RECORDS: Schema = Schema::new(
    "DeleteRecords",
    2,
    &[
        array("Topics", &[string("Name"), array("Partitions", &[int32("PartitionIndex"), int64("Offset")])]),
        int32("TimeoutMs"),
    ],
);

pub static INIT_PRODUCER_ID: Schema = Schema::new(
    "InitProducerId",
    2,
    &[
        string("TransactionalId"),
        int32("TransactionTimeoutMs"),
        int64("ProducerId").since(3),
        int16("ProducerEpoch").since(3),
        boolean("Enable2Pc").since(6),
        boolean("KeepPreparedTxn").since(6),
    ],
);

pub static OFFSET_FOR_LEADER_EPOCH: Schema = Schema::new(
    "OffsetForLeaderEpoch",
    4,
    &[
        int32("ReplicaId").since(3),
        array(
            "Topics",
            &[
                string("Topic"),
                array("Partitions", &[int32("Partition"), int32("CurrentLeaderEpoch"), int32("LeaderEpoch")]),
            ],
        ),
    ],
);

pub static DESCRIBE_CONFIGS: Schema = Schema::new(
    "DescribeConfigs",
    4,
    &[
        array("Resources", &[int8("ResourceType"), string("ResourceName"), string_array("ConfigurationKeys")]),
        boolean("IncludeSynonyms"),
        boolean("IncludeDocumentation").since(3),
    ],
);

pub static ALTER_CONFIGS: Schema = Schema::new(
    "AlterConfigs",
    2,
    &[
        array(
            "Resources",
            &[int8("ResourceType"), string("ResourceName"), array("Configs", &[string("Name"), string("Value")])],
        ),
        boolean("ValidateOnly"),
    ],
);

pub static CREATE_PARTITIONS: Schema = Schema::new(
    "CreatePartitions",
    2,
    &[
        array("Topics", &[string("Name"), int32("Count"), array("Assignments", &[int32_array("BrokerIds")])]),
        int32("TimeoutMs"),
        boolean("ValidateOnly"),
    ],
);

pub static INCREMENTAL_ALTER_CONFIGS: Schema = Schema::new(
    "IncrementalAlterConfigs",
    1,
    &[
        array(
            "Resources",
            &[
                int8("ResourceType"),
                string("ResourceName"),
                array("Configs", &[string("Name"), int8("ConfigOperation"), string("Value")]),
            ],
        ),
        boolean("ValidateOnly"),
    ],
);

pub static LIST_CONFIG_RESOURCES: Schema =
    Schema::new("ListConfigResources", 0, &[Field::new("ResourceTypes", Kind::FixedArray(1)).since(1)]);

pub static DESCRIBE_CLUSTER: Schema = Schema::new(
    "DescribeCluster",
    0,
    &[
        boolean("IncludeClusterAuthorizedOperations"),
        int8("EndpointType").since(1),
        boolean("IncludeFencedBrokers").since(2),
    ],
);

pub static DESCRIBE_TOPIC_PARTITIONS: Schema = Schema::new(
    "DescribeTopicPartitions",
    0,
    &[
        array("Topics", &[string("Name")]),
        int32("ResponsePartitionLimit"),
        nullable_struct("Cursor", &[string("TopicName"), int32("PartitionIndex")]),
    ],
);

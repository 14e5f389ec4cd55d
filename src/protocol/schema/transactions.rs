//! The shapes of requests about transactions.

use super::*;

pub static ADD_PARTITIONS_TO_TXN: Schema = Schema::new(
    "AddPartitionsToTxn",
    3,
    &[
        array(
            "Transactions",
            &[
                string("TransactionalId"),
                int64("ProducerId"),
                int16("ProducerEpoch"),
                boolean("VerifyOnly"),
                array("Topics", &[string("Name"), int32_array("Partitions")]),
            ],
        )
        .since(4),
        string("V3AndBelowTransactionalId").until(3),
        int64("V3AndBelowProducerId").until(3),
        int16("V3AndBelowProducerEpoch").until(3),
        array("V3AndBelowTopics", &[string("Name"), int32_array("Partitions")]).until(3),
    ],
);

pub static ADD_OFFSETS_TO_TXN: Schema = Schema::new(
    "AddOffsetsToTxn",
    3,
    &[string("TransactionalId"), int64("ProducerId"), int16("ProducerEpoch"), string("GroupId")],
);

pub static END_TXN: Schema = Schema::new(
    "EndTxn",
    3,
    &[string("TransactionalId"), int64("ProducerId"), int16("ProducerEpoch"), boolean("Committed")],
);

pub static WRITE_TXN_MARKERS: Schema = Schema::new(
    "WriteTxnMarkers",
    1,
    &[array(
        "Markers",
        &[
            int64("ProducerId"),
            int16("ProducerEpoch"),
            boolean("TransactionResult"),
            array("Topics", &[string("Name"), int32_array("PartitionIndexes")]),
            int32("CoordinatorEpoch"),
            int8("TransactionVersion").since(2),
        ],
    )],
);

pub static TXN_OFFSET_COMMIT: Schema = Schema::new(
    "TxnOffsetCommit",
    3,
    &[
        string("TransactionalId"),
        string("GroupId"),
        int64("ProducerId"),
        int16("ProducerEpoch"),
        int32("GenerationId").since(3),
        string("MemberId").since(3),
        string("GroupInstanceId").since(3),
        array(
            "Topics",
            &[
                string("Name"),
                array(
                    "Partitions",
                    &[
                        int32("PartitionIndex"),
                        int64("CommittedOffset"),
                        int32("CommittedLeaderEpoch").since(2),
                        string("CommittedMetadata"),
                    ],
                ),
            ],
        ),
    ],
);

pub static UPDATE_FEATURES: Schema = Schema::new(
    "UpdateFeatures",
    0,
    &[
        int32("TimeoutMs"),
        array(
            "FeatureUpdates",
            &[
                string("Feature"),
                int16("MaxVersionLevel"),
                boolean("AllowDowngrade").until(0),
                int8("UpgradeType").since(1),
            ],
        ),
        boolean("ValidateOnly").since(1),
    ],
);

pub static DESCRIBE_PRODUCERS: Schema =
    Schema::new("DescribeProducers", 0, &[array("Topics", &[string("Name"), int32_array("PartitionIndexes")])]);

pub static DESCRIBE_TRANSACTIONS: Schema = Schema::new("DescribeTransactions", 0, &[string_array("TransactionalIds")]);

pub static LIST_TRANSACTIONS: Schema = Schema::new(
    "ListTransactions",
    0,
    &[
        string_array("StateFilters"),
        Field::new("ProducerIdFilters", Kind::FixedArray(8)),
        int64("DurationFilter").since(1),
        string("TransactionalIdPattern").since(2),
    ],
);

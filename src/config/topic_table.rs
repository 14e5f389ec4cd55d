//! Every topic, group and client metrics setting of Apache Kafka 4.3, in the order of their names.

use super::setting::Kind::*;
use super::setting::Rule::*;
use super::setting::{Setting, setting};

pub static TOPIC: &[Setting] = &[
    setting(List, "cleanup.policy", "delete").rule(ListOf(&["compact", "delete"], true)).synonym("log.cleanup.policy").doc("What happens to old data: delete drops whole segments, compact keeps the last record of each key; both may be listed."),
    setting(Int, "compression.gzip.level", "-1").rule(GzipLevel).synonym("compression.gzip.level").doc("Level used when this broker compresses with gzip; -1 is the codec's default."),
    setting(Int, "compression.lz4.level", "9").between(1, 17).synonym("compression.lz4.level").doc("Level used when this broker compresses with lz4."),
    setting(String, "compression.type", "producer").one_of(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]).synonym("compression.type").doc("Codec that batches are stored with; producer keeps what the producer chose."),
    setting(Int, "compression.zstd.level", "3").between(-131_072, 22).synonym("compression.zstd.level").doc("Level used when this broker compresses with zstd."),
    setting(Long, "delete.retention.ms", "86400000").at_least(0).synonym("log.cleaner.delete.retention.ms").doc("How long tombstones and transaction markers of a compacted topic stay readable."),
    setting(Long, "file.delete.delay.ms", "60000").at_least(0).synonym("log.segment.delete.delay.ms").doc("How long the files of a removed segment stay on disk."),
    setting(Long, "flush.messages", "9223372036854775807").at_least(1).synonym("log.flush.interval.messages").doc("Records after which the log is forced to the disk; 1 forces every produce before it is acknowledged."),
    setting(Long, "flush.ms", "9223372036854775807").at_least(0).synonym("log.flush.interval.ms").doc("Longest time a record may wait before it is forced to the disk."),
    setting(List, "follower.replication.throttled.replicas", "").rule(ThrottledReplicas).doc("Replicas whose fetching is throttled: partition:broker pairs, or * for all."),
    setting(Int, "index.interval.bytes", "4096").at_least(0).synonym("log.index.interval.bytes").doc("Bytes of log between two entries of the offset index."),
    setting(List, "leader.replication.throttled.replicas", "").rule(ThrottledReplicas).doc("Replicas whose serving is throttled: partition:broker pairs, or * for all."),
    setting(Long, "local.retention.bytes", "-2").at_least(-2).synonym("log.local.retention.bytes").doc("Size of the local part of a tiered partition; -2 takes retention.bytes."),
    setting(Long, "local.retention.ms", "-2").at_least(-2).synonym("log.local.retention.ms").doc("Age of the local part of a tiered partition; -2 takes retention.ms."),
    setting(Long, "max.compaction.lag.ms", "9223372036854775807").at_least(1).synonym("log.cleaner.max.compaction.lag.ms").doc("Longest time a record may stay uncompacted."),
    setting(Int, "max.message.bytes", "1048588").at_least(0).synonym("message.max.bytes").doc("Largest batch that is accepted, as compressed by the producer and with its overhead."),
    setting(Long, "message.timestamp.after.max.ms", "3600000").at_least(0).synonym("log.message.timestamp.after.max.ms").doc("How far a record's time may be ahead of the broker's."),
    setting(Long, "message.timestamp.before.max.ms", "9223372036854775807").at_least(0).synonym("log.message.timestamp.before.max.ms").doc("How far a record's time may be behind the broker's."),
    setting(String, "message.timestamp.type", "CreateTime").one_of(&["CreateTime", "LogAppendTime"]).synonym("log.message.timestamp.type").doc("Whose time a record carries: the producer's (CreateTime) or the broker's (LogAppendTime)."),
    setting(Double, "min.cleanable.dirty.ratio", "0.5").between(0, 1).synonym("log.cleaner.min.cleanable.ratio").doc("Share of uncompacted bytes at which a log is compacted."),
    setting(Long, "min.compaction.lag.ms", "0").at_least(0).synonym("log.cleaner.min.compaction.lag.ms").doc("Shortest time before a record may be compacted away."),
    setting(Int, "min.insync.replicas", "1").at_least(1).synonym("min.insync.replicas").doc("In-sync replicas that a produce with acks=all needs."),
    setting(Boolean, "preallocate", "false").synonym("log.preallocate").doc("Allocate a segment's whole file when it is made."),
    setting(Boolean, "remote.log.copy.disable", "false").doc("Stop copying to the remote tier; what is there stays readable."),
    setting(Boolean, "remote.log.delete.on.disable", "false").doc("Delete what is in the remote tier when it is switched off."),
    setting(Boolean, "remote.storage.enable", "false").doc("Keep older segments in a remote tier."),
    setting(Long, "retention.bytes", "-1").synonym("log.retention.bytes").doc("Size a partition may reach before its oldest segments are deleted; negative means any."),
    setting(Long, "retention.ms", "604800000").at_least(-1).synonym("log.retention.ms").doc("Age at which segments are deleted; -1 means never."),
    setting(Int, "segment.bytes", "1073741824").at_least(1_048_576).synonym("log.segment.bytes").doc("Size at which a new segment file is begun."),
    setting(Int, "segment.index.bytes", "10485760").at_least(4).synonym("log.index.size.max.bytes").doc("Largest size of an index file; a new segment is begun when it is full."),
    setting(Long, "segment.jitter.ms", "0").at_least(0).synonym("log.roll.jitter.ms").doc("Random time taken off segment.ms, so that segments do not all roll at once."),
    setting(Long, "segment.ms", "604800000").at_least(1).synonym("log.roll.ms").doc("Age at which a new segment is begun even if the file is not full."),
    setting(Boolean, "unclean.leader.election.enable", "false").synonym("unclean.leader.election.enable").doc("Let a replica that is behind become leader when no other is left, losing data."),
];

pub static GROUP: &[Setting] = &[
    setting(Int, "consumer.assignment.interval.ms", "1000")
        .at_least(0)
        .synonym("group.consumer.assignment.interval.ms")
        .doc("Shortest time between two assignments of a consumer group."),
    setting(Int, "consumer.heartbeat.interval.ms", "5000")
        .at_least(1)
        .synonym("group.consumer.heartbeat.interval.ms")
        .doc("Time between heartbeats that members of a consumer group are given."),
    setting(Int, "consumer.session.timeout.ms", "45000")
        .at_least(1)
        .synonym("group.consumer.session.timeout.ms")
        .doc("Silence after which a member of a consumer group is removed."),
    setting(Int, "share.assignment.interval.ms", "1000")
        .at_least(0)
        .synonym("group.share.assignment.interval.ms")
        .doc("Shortest time between two assignments of a share group."),
    setting(String, "share.auto.offset.reset", "latest")
        .rule(OffsetReset)
        .doc("Where a share group begins: latest, earliest, or by_duration: and an ISO-8601 duration."),
    setting(Int, "share.delivery.count.limit", "5")
        .at_least(2)
        .synonym("group.share.delivery.count.limit")
        .doc("Deliveries after which a record of a share group is given up."),
    setting(Int, "share.heartbeat.interval.ms", "5000")
        .at_least(1)
        .synonym("group.share.heartbeat.interval.ms")
        .doc("Time between heartbeats that members of a share group are given."),
    setting(String, "share.isolation.level", "read_uncommitted")
        .one_of(&["read_committed", "read_uncommitted"])
        .doc("Whether a share group sees records of transactions that have not committed."),
    setting(Int, "share.partition.max.record.locks", "2000")
        .at_least(100)
        .synonym("group.share.partition.max.record.locks")
        .doc("Records of a partition that a share group may hold at once."),
    setting(Int, "share.record.lock.duration.ms", "30000")
        .at_least(1000)
        .synonym("group.share.record.lock.duration.ms")
        .doc("Time a consumer of a share group may hold a record."),
    setting(Boolean, "share.renew.acknowledge.enable", "true")
        .doc("Let a consumer of a share group renew the lock of a record."),
    setting(Int, "share.session.timeout.ms", "45000")
        .at_least(1)
        .synonym("group.share.session.timeout.ms")
        .doc("Silence after which a member of a share group is removed."),
    setting(Int, "streams.assignment.interval.ms", "1000")
        .at_least(0)
        .synonym("group.streams.assignment.interval.ms")
        .doc("Shortest time between two assignments of a streams group."),
    setting(Int, "streams.heartbeat.interval.ms", "5000")
        .at_least(1)
        .synonym("group.streams.heartbeat.interval.ms")
        .doc("Time between heartbeats that members of a streams group are given."),
    setting(Int, "streams.initial.rebalance.delay.ms", "3000")
        .at_least(0)
        .synonym("group.streams.initial.rebalance.delay.ms")
        .doc("Time a new streams group waits for more members before its first assignment."),
    setting(Int, "streams.num.standby.replicas", "0")
        .at_least(0)
        .synonym("group.streams.num.standby.replicas")
        .doc("Standby replicas of each stateful task of a streams group."),
    setting(Int, "streams.session.timeout.ms", "45000")
        .at_least(1)
        .synonym("group.streams.session.timeout.ms")
        .doc("Silence after which a member of a streams group is removed."),
];

pub static CLIENT_METRICS: &[Setting] = &[
    setting(Int, "interval.ms", "300000").doc("Time between two pushes of client metrics."),
    setting(List, "match", "").doc("Clients that a subscription applies to: name=regular expression pairs."),
    setting(List, "metrics", "").doc("Prefixes of the names of the metrics that are asked for."),
];

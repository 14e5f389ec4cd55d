//! Every broker setting of Apache Kafka 4.3, in the order of its names. Those with a line of documentation take effect.

use super::setting::Kind::*;
use super::setting::Rule::*;
use super::setting::{Setting, setting, unset};

pub static BROKER: &[Setting] = &[
    setting(Int, "add.partitions.to.txn.retry.backoff.max.ms", "100").at_least(0).doc("How long a producer is waited for whose last transaction is not quite complete."),
    setting(Int, "add.partitions.to.txn.retry.backoff.ms", "20").at_least(1).doc("The pause between two looks at it."),
    unset(List, "advertised.listeners")
        .rule(ListOf(&[], false))
        .doc("Addresses that clients are told to connect to; the listeners where unset."),
    unset(Class, "alter.config.policy.class.name"),
    setting(Int, "alter.log.dirs.replication.quota.window.num", "11").at_least(1),
    setting(Int, "alter.log.dirs.replication.quota.window.size.seconds", "1").at_least(1),
    setting(String, "authorizer.class.name", ""),
    setting(Boolean, "auto.create.topics.enable", "true")
        .doc("Create a topic when a client asks for its metadata and allows it."),
    setting(Boolean, "auto.leader.rebalance.enable", "true"),
    setting(Int, "background.threads", "10").at_least(1).cluster_wide(),
    setting(Int, "broker.heartbeat.interval.ms", "2000"),
    setting(Int, "broker.id", "-1").doc("Old name of node.id."),
    unset(String, "broker.rack").doc("Rack (or zone) that clients and assignments see for this broker."),
    setting(Int, "broker.session.timeout.ms", "9000"),
    unset(Class, "client.quota.callback.class"),
    setting(Int, "compression.gzip.level", "-1")
        .rule(GzipLevel)
        .cluster_wide()
        .doc("Default of the topic setting of the same name."),
    setting(Int, "compression.lz4.level", "9")
        .between(1, 17)
        .cluster_wide()
        .doc("Default of the topic setting of the same name."),
    setting(String, "compression.type", "producer")
        .one_of(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])
        .cluster_wide()
        .doc("Default of the topic setting of the same name."),
    setting(Int, "compression.zstd.level", "3")
        .between(-131_072, 22)
        .cluster_wide()
        .doc("Default of the topic setting of the same name."),
    setting(List, "config.providers", "").cluster_wide(),
    setting(Int, "connection.failed.authentication.delay.ms", "100").at_least(0),
    setting(Long, "connections.max.idle.ms", "600000")
        .doc("Silence after which a connection is closed; negative means never."),
    setting(Long, "connections.max.reauth.ms", "0"),
    setting(Boolean, "controlled.shutdown.enable", "true"),
    unset(List, "controller.listener.names")
        .rule(ListOf(&[], false))
        .doc("Listeners for controllers, which clients are not told about."),
    setting(Int, "controller.quorum.append.linger.ms", "25").at_least(0),
    setting(Boolean, "controller.quorum.auto.join.enable", "false"),
    setting(List, "controller.quorum.bootstrap.servers", "")
        .doc("Controllers to find the quorum by; a single node needs none."),
    setting(Int, "controller.quorum.election.backoff.max.ms", "1000").at_least(0),
    setting(Int, "controller.quorum.election.timeout.ms", "1000").at_least(0),
    setting(Int, "controller.quorum.fetch.max.bytes", "1048576").at_least(1),
    setting(Int, "controller.quorum.fetch.snapshot.max.bytes", "1048576").at_least(1),
    setting(Int, "controller.quorum.fetch.timeout.ms", "2000").at_least(0),
    setting(Int, "controller.quorum.request.timeout.ms", "2000").at_least(0),
    setting(Int, "controller.quorum.retry.backoff.ms", "20").at_least(0),
    setting(List, "controller.quorum.voters", "")
        .doc("The controllers' id@host:port; a single node may name only itself."),
    setting(Int, "controller.quota.window.num", "11").at_least(1),
    setting(Int, "controller.quota.window.size.seconds", "1").at_least(1),
    setting(Int, "controller.socket.timeout.ms", "30000"),
    setting(List, "cordoned.log.dirs", "").per_broker(),
    unset(Class, "create.topic.policy.class.name"),
    setting(Int, "default.replication.factor", "1").doc("Replicas of a topic whose creator names no number."),
    setting(Long, "delegation.token.expiry.check.interval.ms", "3600000").at_least(1),
    setting(Long, "delegation.token.expiry.time.ms", "86400000").at_least(1),
    setting(Long, "delegation.token.max.lifetime.ms", "604800000").at_least(1),
    unset(Password, "delegation.token.secret.key"),
    setting(Int, "delete.records.purgatory.purge.interval.requests", "1"),
    setting(Boolean, "delete.topic.enable", "true").doc("Let clients delete topics."),
    unset(List, "early.start.listeners"),
    setting(Int, "fetch.max.bytes", "57671680").at_least(1024).doc("Most bytes that one fetch is answered with."),
    setting(Int, "fetch.purgatory.purge.interval.requests", "1000"),
    setting(Boolean, "follower.fetch.last.tiered.offset.enable", "false").cluster_wide(),
    setting(Int, "group.consumer.assignment.interval.ms", "1000")
        .at_least(0)
        .cluster_wide()
        .doc("Shortest time between two assignments of a group of the new protocol."),
    setting(List, "group.consumer.assignors", "uniform,range")
        .rule(ListOf(&[], false))
        .doc("Assignors of the new protocol, of uniform and range; the first is the default."),
    setting(Int, "group.consumer.heartbeat.interval.ms", "5000")
        .at_least(1)
        .doc("Time between heartbeats that members of the new protocol are given."),
    setting(Int, "group.consumer.max.assignment.interval.ms", "15000")
        .at_least(0)
        .doc("Upper bound of a group's own consumer.assignment.interval.ms."),
    setting(Int, "group.consumer.max.heartbeat.interval.ms", "15000")
        .at_least(1)
        .doc("Upper bound of a group's own consumer.heartbeat.interval.ms."),
    setting(Int, "group.consumer.max.session.timeout.ms", "60000")
        .at_least(1)
        .doc("Upper bound of a group's own consumer.session.timeout.ms."),
    setting(Int, "group.consumer.max.size", "2147483647")
        .at_least(1)
        .doc("Most members of a group of the new protocol."),
    setting(String, "group.consumer.migration.policy", "bidirectional")
        .rule(OneOfIgnoreCase(&["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"]))
        .doc("Which way groups with members may change between the two protocols."),
    setting(Int, "group.consumer.min.assignment.interval.ms", "0")
        .at_least(0)
        .doc("Lower bound of a group's own consumer.assignment.interval.ms."),
    setting(Int, "group.consumer.min.heartbeat.interval.ms", "5000")
        .at_least(1)
        .doc("Lower bound of a group's own consumer.heartbeat.interval.ms."),
    setting(Int, "group.consumer.min.session.timeout.ms", "45000")
        .at_least(1)
        .doc("Lower bound of a group's own consumer.session.timeout.ms."),
    setting(Int, "group.consumer.session.timeout.ms", "45000")
        .at_least(1)
        .doc("Silence after which a member of the new protocol is out."),
    setting(Int, "group.coordinator.append.linger.ms", "-1").at_least(-1),
    setting(Int, "group.coordinator.background.threads", "2").at_least(1),
    setting(Int, "group.coordinator.cached.buffer.max.bytes", "1048588").at_least(524_288).cluster_wide(),
    setting(List, "group.coordinator.rebalance.protocols", "classic,consumer,streams")
        .rule(ListOf(&["consumer", "classic", "share", "streams"], false))
        .doc("Without consumer in it the new protocol is not served."),
    setting(Int, "group.coordinator.threads", "4").at_least(1),
    setting(Int, "group.initial.rebalance.delay.ms", "3000")
        .doc("Time a new classic group waits for more members before its first rebalance."),
    setting(Int, "group.max.session.timeout.ms", "1800000")
        .doc("Longest session timeout that a classic member may ask for."),
    setting(Int, "group.max.size", "2147483647").at_least(1).doc("Most members of a classic group."),
    setting(Int, "group.min.session.timeout.ms", "6000")
        .doc("Shortest session timeout that a classic member may ask for."),
    setting(Int, "group.share.assignment.interval.ms", "1000").at_least(0).cluster_wide(),
    setting(List, "group.share.assignors", "simple").rule(ListOf(&[], false)),
    setting(Int, "group.share.delivery.count.limit", "5").between(2, 10),
    setting(Int, "group.share.heartbeat.interval.ms", "5000").at_least(1),
    setting(Int, "group.share.max.assignment.interval.ms", "15000").at_least(0),
    setting(Int, "group.share.max.delivery.count.limit", "10").between(5, 25),
    setting(Int, "group.share.max.heartbeat.interval.ms", "15000").at_least(1),
    setting(Int, "group.share.max.partition.max.record.locks", "4000").between(2000, 10_000),
    setting(Int, "group.share.max.record.lock.duration.ms", "60000").between(30_000, 3_600_000),
    setting(Int, "group.share.max.session.timeout.ms", "60000").at_least(1),
    setting(Int, "group.share.max.share.sessions", "2000").at_least(1),
    setting(Int, "group.share.max.size", "200").between(1, 1000),
    setting(Int, "group.share.min.assignment.interval.ms", "0").at_least(0),
    setting(Int, "group.share.min.delivery.count.limit", "2").between(2, 5),
    setting(Int, "group.share.min.heartbeat.interval.ms", "5000").at_least(1),
    setting(Int, "group.share.min.partition.max.record.locks", "100").between(100, 2000),
    setting(Int, "group.share.min.record.lock.duration.ms", "15000").between(1000, 30_000),
    setting(Int, "group.share.min.session.timeout.ms", "45000").at_least(1),
    setting(Int, "group.share.partition.max.record.locks", "2000").between(100, 10_000),
    setting(Int, "group.share.record.lock.duration.ms", "30000").between(1000, 3_600_000),
    setting(Int, "group.share.session.timeout.ms", "45000").at_least(1),
    setting(Int, "group.streams.assignment.interval.ms", "1000").at_least(0).cluster_wide(),
    setting(Int, "group.streams.heartbeat.interval.ms", "5000").at_least(1),
    setting(Int, "group.streams.initial.rebalance.delay.ms", "3000").at_least(0),
    setting(Int, "group.streams.max.assignment.interval.ms", "15000").at_least(0),
    setting(Int, "group.streams.max.heartbeat.interval.ms", "15000").at_least(1),
    setting(Int, "group.streams.max.session.timeout.ms", "60000").at_least(1),
    setting(Int, "group.streams.max.size", "2147483647").at_least(1),
    setting(Int, "group.streams.max.standby.replicas", "2").at_least(0),
    setting(Int, "group.streams.min.assignment.interval.ms", "0").at_least(0),
    setting(Int, "group.streams.min.heartbeat.interval.ms", "5000").at_least(1),
    setting(Int, "group.streams.min.session.timeout.ms", "45000").at_least(1),
    setting(Int, "group.streams.num.standby.replicas", "0").at_least(0),
    setting(Int, "group.streams.session.timeout.ms", "45000").at_least(1),
    setting(Int, "initial.broker.registration.timeout.ms", "60000"),
    unset(String, "inter.broker.listener.name").doc("Listener that brokers talk to each other by."),
    setting(Int, "kafka.metrics.polling.interval.secs", "10").at_least(1),
    setting(List, "kafka.metrics.reporters", ""),
    setting(Long, "leader.imbalance.check.interval.seconds", "300").at_least(1),
    setting(
        String,
        "listener.security.protocol.map",
        "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
    )
    .per_broker()
    .doc("Security protocol of each listener name; only PLAINTEXT is served."),
    setting(List, "listeners", "PLAINTEXT://:9092")
        .rule(ListOf(&[], false))
        .per_broker()
        .doc("Addresses to listen on, as NAME://host:port; port 0 takes a free one."),
    setting(Long, "log.cleaner.backoff.ms", "15000")
        .at_least(0)
        .cluster_wide()
        .doc("Time a cleaner thread waits when there is nothing to compact."),
    setting(Long, "log.cleaner.dedupe.buffer.size", "134217728")
        .cluster_wide()
        .doc("Most memory for the keys of the logs that are compacted, for all cleaner threads together."),
    setting(Long, "log.cleaner.delete.retention.ms", "86400000")
        .at_least(0)
        .cluster_wide()
        .doc("Default of delete.retention.ms."),
    setting(Boolean, "log.cleaner.enable", "true").doc("Compact the topics that ask for it."),
    setting(Double, "log.cleaner.io.buffer.load.factor", "0.9")
        .cluster_wide()
        .doc("Share of log.cleaner.dedupe.buffer.size that may be in use: a fuller table is slower."),
    setting(Int, "log.cleaner.io.buffer.size", "524288").at_least(0).cluster_wide(),
    setting(Double, "log.cleaner.io.max.bytes.per.second", "1.7976931348623157E308")
        .cluster_wide()
        .doc("Most bytes that all cleaner threads together read and write in a second."),
    setting(Long, "log.cleaner.max.compaction.lag.ms", "9223372036854775807")
        .at_least(1)
        .cluster_wide()
        .doc("Default of max.compaction.lag.ms."),
    setting(Double, "log.cleaner.min.cleanable.ratio", "0.5")
        .between(0, 1)
        .cluster_wide()
        .doc("Default of min.cleanable.dirty.ratio."),
    setting(Long, "log.cleaner.min.compaction.lag.ms", "0")
        .at_least(0)
        .cluster_wide()
        .doc("Default of min.compaction.lag.ms."),
    setting(Int, "log.cleaner.threads", "1")
        .at_least(0)
        .cluster_wide()
        .doc("Logs that are compacted at the same time."),
    setting(List, "log.cleanup.policy", "delete")
        .rule(ListOf(&["compact", "delete"], true))
        .cluster_wide()
        .doc("Default of cleanup.policy."),
    setting(List, "log.dir", "/tmp/kafka-logs")
        .rule(ListOf(&[], false))
        .doc("Directory of the data, where log.dirs is unset."),
    setting(Long, "log.dir.failure.timeout.ms", "30000").at_least(1),
    unset(List, "log.dirs").rule(ListOf(&[], false)).doc("Directories of the data."),
    setting(Long, "log.flush.interval.messages", "9223372036854775807")
        .at_least(1)
        .cluster_wide()
        .doc("Default of flush.messages."),
    unset(Long, "log.flush.interval.ms").cluster_wide().doc("Default of flush.ms."),
    setting(Int, "log.flush.offset.checkpoint.interval.ms", "60000").at_least(0),
    setting(Long, "log.flush.scheduler.interval.ms", "9223372036854775807")
        .doc("Default of flush.ms where log.flush.interval.ms is unset."),
    setting(Int, "log.flush.start.offset.checkpoint.interval.ms", "60000").at_least(0),
    setting(Int, "log.index.interval.bytes", "4096").at_least(0).cluster_wide().doc("Default of index.interval.bytes."),
    setting(Int, "log.index.size.max.bytes", "10485760")
        .at_least(4)
        .cluster_wide()
        .doc("Default of segment.index.bytes."),
    setting(Long, "log.local.retention.bytes", "-2").at_least(-2).cluster_wide(),
    setting(Long, "log.local.retention.ms", "-2").at_least(-2).cluster_wide(),
    setting(Long, "log.message.timestamp.after.max.ms", "3600000")
        .at_least(0)
        .cluster_wide()
        .doc("Default of message.timestamp.after.max.ms."),
    setting(Long, "log.message.timestamp.before.max.ms", "9223372036854775807")
        .at_least(0)
        .cluster_wide()
        .doc("Default of message.timestamp.before.max.ms."),
    setting(String, "log.message.timestamp.type", "CreateTime")
        .one_of(&["CreateTime", "LogAppendTime"])
        .cluster_wide()
        .doc("Default of message.timestamp.type."),
    setting(Boolean, "log.preallocate", "false").cluster_wide().doc("Default of preallocate."),
    setting(Long, "log.retention.bytes", "-1").cluster_wide().doc("Default of retention.bytes."),
    setting(Long, "log.retention.check.interval.ms", "300000")
        .at_least(1)
        .doc("Time between two looks for segments to delete."),
    setting(Int, "log.retention.hours", "168")
        .doc("Default of retention.ms, where neither log.retention.ms nor log.retention.minutes is set."),
    unset(Int, "log.retention.minutes").doc("Default of retention.ms, where log.retention.ms is unset."),
    unset(Long, "log.retention.ms").cluster_wide().doc("Default of retention.ms."),
    setting(Int, "log.roll.hours", "168").at_least(1).doc("Default of segment.ms, where log.roll.ms is unset."),
    setting(Int, "log.roll.jitter.hours", "0")
        .at_least(0)
        .doc("Default of segment.jitter.ms, where log.roll.jitter.ms is unset."),
    unset(Long, "log.roll.jitter.ms").cluster_wide().doc("Default of segment.jitter.ms."),
    unset(Long, "log.roll.ms").cluster_wide().doc("Default of segment.ms."),
    setting(Int, "log.segment.bytes", "1073741824").at_least(1_048_576).cluster_wide().doc("Default of segment.bytes."),
    setting(Long, "log.segment.delete.delay.ms", "60000")
        .at_least(0)
        .cluster_wide()
        .doc("Default of file.delete.delay.ms."),
    setting(Int, "max.connection.creation.rate", "2147483647").at_least(0).cluster_wide(),
    setting(Int, "max.connections", "2147483647").at_least(0).cluster_wide().doc("Most connections at once."),
    setting(Int, "max.connections.per.ip", "2147483647")
        .at_least(0)
        .cluster_wide()
        .doc("Most connections at once from one address."),
    setting(String, "max.connections.per.ip.overrides", "")
        .cluster_wide()
        .doc("Other limits for some addresses, as address:limit pairs."),
    setting(Int, "max.incremental.fetch.session.cache.slots", "1000")
        .at_least(0)
        .doc("Most incremental fetch sessions that are kept."),
    setting(Int, "max.request.partition.size.limit", "2000")
        .at_least(1)
        .doc("Most partitions that one DescribeTopicPartitions is answered with."),
    setting(Int, "message.max.bytes", "1048588").at_least(0).cluster_wide().doc("Default of max.message.bytes."),
    unset(String, "metadata.log.dir").doc("Directory of the metadata log, where it is not the first of log.dirs."),
    setting(Long, "metadata.log.max.record.bytes.between.snapshots", "20971520")
        .at_least(1)
        .doc("Bytes of the metadata log after which a snapshot is written."),
    setting(Long, "metadata.log.max.snapshot.interval.ms", "3600000")
        .at_least(0)
        .doc("Time after which a snapshot is written, if there is anything new; 0 for never."),
    setting(Int, "metadata.log.segment.bytes", "1073741824")
        .at_least(8_388_608)
        .doc("Size of a segment of the metadata log."),
    setting(Long, "metadata.log.segment.ms", "604800000").doc("Age after which the metadata log begins a new segment."),
    setting(Int, "metadata.max.idle.interval.ms", "500").at_least(0),
    setting(Long, "metadata.max.retention.bytes", "104857600")
        .doc("Size of the metadata log and its snapshots above which old ones are deleted."),
    setting(Long, "metadata.max.retention.ms", "604800000").doc("Age above which a snapshot is deleted."),
    setting(List, "metric.reporters", "org.apache.kafka.common.metrics.JmxReporter").cluster_wide(),
    setting(Int, "metrics.num.samples", "2").at_least(1),
    setting(String, "metrics.recording.level", "INFO"),
    setting(Long, "metrics.sample.window.ms", "30000").at_least(1),
    setting(Int, "min.insync.replicas", "1")
        .at_least(1)
        .cluster_wide()
        .doc("Default of the topic setting of the same name."),
    unset(Int, "node.id").at_least(0).doc("This node's number."),
    setting(Int, "num.io.threads", "8").at_least(1).cluster_wide(),
    setting(Int, "num.network.threads", "3").at_least(1).cluster_wide(),
    setting(Int, "num.partitions", "1").at_least(1).doc("Partitions of a topic whose creator names no number."),
    setting(Int, "num.recovery.threads.per.data.dir", "2").at_least(1).cluster_wide(),
    unset(Int, "num.replica.alter.log.dirs.threads"),
    setting(Int, "num.replica.fetchers", "1").at_least(1).cluster_wide(),
    setting(Int, "offset.metadata.max.bytes", "4096").doc("Longest text that may be committed with an offset."),
    setting(Int, "offsets.commit.timeout.ms", "5000").at_least(1),
    setting(Int, "offsets.load.buffer.size", "5242880").at_least(1),
    setting(Long, "offsets.retention.check.interval.ms", "600000")
        .at_least(1)
        .doc("Time between two looks for expired offsets."),
    setting(Int, "offsets.retention.minutes", "10080")
        .at_least(1)
        .doc("How long offsets are kept that no member of their group wants any more."),
    setting(Int, "offsets.topic.compression.codec", "0"),
    setting(Int, "offsets.topic.num.partitions", "50")
        .at_least(1)
        .doc("Partitions of __consumer_offsets when it is created."),
    setting(Short, "offsets.topic.replication.factor", "3")
        .at_least(1)
        .doc("Replicas of that topic, as far as there are brokers."),
    setting(Int, "offsets.topic.segment.bytes", "104857600").at_least(1).doc("That topic's segment.bytes."),
    setting(
        Class,
        "principal.builder.class",
        "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder",
    )
    .per_broker(),
    unset(List, "process.roles")
        .rule(ListOf(&["broker", "controller"], false))
        .doc("What this node is; broker and controller together for now."),
    setting(Int, "producer.id.expiration.ms", "86400000")
        .at_least(1)
        .cluster_wide()
        .doc("Time after which an idle idempotent producer is forgotten."),
    setting(Int, "producer.purgatory.purge.interval.requests", "1000"),
    setting(Long, "queued.max.request.bytes", "-1").doc("Most bytes of requests that wait at once; -1 means any."),
    setting(Int, "queued.max.requests", "500").at_least(1),
    setting(Int, "quota.window.num", "11").at_least(1),
    setting(Int, "quota.window.size.seconds", "1").at_least(1),
    setting(Int, "remote.fetch.max.wait.ms", "500").at_least(1).cluster_wide(),
    setting(Long, "remote.list.offsets.request.timeout.ms", "30000").at_least(1).cluster_wide(),
    setting(Long, "remote.log.index.file.cache.total.size.bytes", "1073741824").at_least(1).cluster_wide(),
    setting(Int, "remote.log.manager.copier.thread.pool.size", "10").at_least(1).cluster_wide(),
    setting(Long, "remote.log.manager.copy.max.bytes.per.second", "9223372036854775807").at_least(1).cluster_wide(),
    setting(Int, "remote.log.manager.copy.quota.window.num", "11").at_least(1),
    setting(Int, "remote.log.manager.copy.quota.window.size.seconds", "1").at_least(1),
    setting(Int, "remote.log.manager.expiration.thread.pool.size", "10").at_least(1).cluster_wide(),
    setting(Long, "remote.log.manager.fetch.max.bytes.per.second", "9223372036854775807").at_least(1).cluster_wide(),
    setting(Int, "remote.log.manager.fetch.quota.window.num", "11").at_least(1),
    setting(Int, "remote.log.manager.fetch.quota.window.size.seconds", "1").at_least(1),
    setting(Int, "remote.log.manager.follower.thread.pool.size", "2").at_least(1).cluster_wide(),
    setting(Long, "remote.log.manager.task.interval.ms", "30000").at_least(1),
    setting(Int, "remote.log.manager.thread.pool.size", "2").at_least(1),
    setting(Int, "remote.log.metadata.custom.metadata.max.bytes", "128").at_least(0),
    setting(
        String,
        "remote.log.metadata.manager.class.name",
        "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager",
    )
    .rule(NonEmpty),
    unset(String, "remote.log.metadata.manager.class.path"),
    setting(String, "remote.log.metadata.manager.impl.prefix", "rlmm.config.").rule(NonEmpty),
    unset(String, "remote.log.metadata.manager.listener.name").rule(NonEmpty),
    setting(Int, "remote.log.reader.max.pending.tasks", "100").at_least(1),
    setting(Int, "remote.log.reader.threads", "10").at_least(1).cluster_wide(),
    unset(String, "remote.log.storage.manager.class.name").rule(NonEmpty),
    unset(String, "remote.log.storage.manager.class.path"),
    setting(String, "remote.log.storage.manager.impl.prefix", "rsm.config.").rule(NonEmpty),
    setting(Boolean, "remote.log.storage.system.enable", "false"),
    setting(Int, "replica.fetch.backoff.ms", "1000").at_least(0),
    setting(Int, "replica.fetch.max.bytes", "1048576").at_least(0),
    setting(Int, "replica.fetch.min.bytes", "1"),
    setting(Int, "replica.fetch.response.max.bytes", "10485760").at_least(0),
    setting(Int, "replica.fetch.wait.max.ms", "500"),
    setting(Long, "replica.high.watermark.checkpoint.interval.ms", "5000"),
    setting(Long, "replica.lag.time.max.ms", "30000"),
    unset(String, "replica.selector.class"),
    setting(Int, "replica.socket.receive.buffer.bytes", "65536"),
    setting(Int, "replica.socket.timeout.ms", "30000"),
    setting(Int, "replication.quota.window.num", "11").at_least(1),
    setting(Int, "replication.quota.window.size.seconds", "1").at_least(1),
    setting(Int, "request.timeout.ms", "30000"),
    unset(Class, "sasl.client.callback.handler.class"),
    setting(List, "sasl.enabled.mechanisms", "GSSAPI").per_broker(),
    unset(Password, "sasl.jaas.config").per_broker(),
    setting(String, "sasl.kerberos.kinit.cmd", "/usr/bin/kinit").per_broker(),
    setting(Long, "sasl.kerberos.min.time.before.relogin", "60000").per_broker(),
    setting(List, "sasl.kerberos.principal.to.local.rules", "DEFAULT").per_broker(),
    unset(String, "sasl.kerberos.service.name").per_broker(),
    setting(Double, "sasl.kerberos.ticket.renew.jitter", "0.05").per_broker(),
    setting(Double, "sasl.kerberos.ticket.renew.window.factor", "0.8").per_broker(),
    unset(Class, "sasl.login.callback.handler.class"),
    unset(Class, "sasl.login.class"),
    unset(Int, "sasl.login.connect.timeout.ms"),
    unset(Int, "sasl.login.read.timeout.ms"),
    setting(Short, "sasl.login.refresh.buffer.seconds", "300").per_broker(),
    setting(Short, "sasl.login.refresh.min.period.seconds", "60").per_broker(),
    setting(Double, "sasl.login.refresh.window.factor", "0.8").per_broker(),
    setting(Double, "sasl.login.refresh.window.jitter", "0.05").per_broker(),
    setting(Long, "sasl.login.retry.backoff.max.ms", "10000"),
    setting(Long, "sasl.login.retry.backoff.ms", "100"),
    setting(String, "sasl.mechanism.controller.protocol", "GSSAPI"),
    setting(String, "sasl.mechanism.inter.broker.protocol", "GSSAPI").per_broker(),
    setting(String, "sasl.oauthbearer.assertion.algorithm", "RS256").rule(OneOfIgnoreCase(&["ES256", "RS256"])),
    unset(String, "sasl.oauthbearer.assertion.claim.aud"),
    setting(Int, "sasl.oauthbearer.assertion.claim.exp.seconds", "300").between(0, 86_400),
    unset(String, "sasl.oauthbearer.assertion.claim.iss"),
    setting(Boolean, "sasl.oauthbearer.assertion.claim.jti.include", "false"),
    setting(Int, "sasl.oauthbearer.assertion.claim.nbf.seconds", "60").between(0, 3600),
    unset(String, "sasl.oauthbearer.assertion.claim.sub"),
    unset(String, "sasl.oauthbearer.assertion.file"),
    unset(String, "sasl.oauthbearer.assertion.private.key.file"),
    unset(Password, "sasl.oauthbearer.assertion.private.key.passphrase"),
    unset(String, "sasl.oauthbearer.assertion.template.file"),
    unset(String, "sasl.oauthbearer.client.credentials.client.id"),
    unset(Password, "sasl.oauthbearer.client.credentials.client.secret"),
    setting(Int, "sasl.oauthbearer.clock.skew.seconds", "30"),
    setting(List, "sasl.oauthbearer.expected.audience", ""),
    unset(String, "sasl.oauthbearer.expected.issuer"),
    setting(Long, "sasl.oauthbearer.jwks.endpoint.refresh.ms", "3600000"),
    setting(Long, "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", "10000"),
    setting(Long, "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "100"),
    unset(String, "sasl.oauthbearer.jwks.endpoint.url"),
    setting(
        Class,
        "sasl.oauthbearer.jwt.retriever.class",
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever",
    ),
    setting(
        Class,
        "sasl.oauthbearer.jwt.validator.class",
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator",
    ),
    unset(String, "sasl.oauthbearer.scope"),
    setting(String, "sasl.oauthbearer.scope.claim.name", "scope"),
    setting(String, "sasl.oauthbearer.sub.claim.name", "sub"),
    unset(String, "sasl.oauthbearer.token.endpoint.url"),
    unset(Class, "sasl.server.callback.handler.class"),
    setting(Int, "sasl.server.max.receive.size", "524288"),
    setting(String, "security.inter.broker.protocol", "PLAINTEXT")
        .one_of(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
        .doc("Security protocol between brokers, where inter.broker.listener.name is unset."),
    unset(String, "security.providers"),
    setting(Int, "share.coordinator.append.linger.ms", "-1").at_least(-1),
    setting(Int, "share.coordinator.cached.buffer.max.bytes", "1048588").at_least(524_288).cluster_wide(),
    setting(Int, "share.coordinator.load.buffer.size", "5242880").at_least(1),
    setting(Int, "share.coordinator.snapshot.update.records.per.snapshot", "500").between(0, 500),
    setting(Int, "share.coordinator.state.topic.compression.codec", "0"),
    setting(Short, "share.coordinator.state.topic.min.isr", "2").at_least(1),
    setting(Int, "share.coordinator.state.topic.num.partitions", "50").at_least(1),
    setting(Short, "share.coordinator.state.topic.replication.factor", "3").at_least(1),
    setting(Int, "share.coordinator.state.topic.segment.bytes", "104857600").at_least(1),
    setting(Int, "share.coordinator.threads", "1").at_least(1),
    setting(Int, "share.coordinator.write.timeout.ms", "5000").at_least(1),
    setting(Int, "share.fetch.purgatory.purge.interval.requests", "1000"),
    setting(Long, "socket.connection.setup.timeout.max.ms", "30000"),
    setting(Long, "socket.connection.setup.timeout.ms", "10000"),
    setting(Int, "socket.listen.backlog.size", "50").at_least(1).doc("Connections that may wait to be accepted."),
    setting(Int, "socket.receive.buffer.bytes", "102400")
        .doc("SO_RCVBUF of connections; -1, or not set, leaves it to the system."),
    setting(Int, "socket.request.max.bytes", "104857600").at_least(1).doc("Largest request that is read."),
    setting(Int, "socket.send.buffer.bytes", "102400")
        .doc("SO_SNDBUF of connections; -1, or not set, leaves it to the system."),
    setting(Boolean, "ssl.allow.dn.changes", "false"),
    setting(Boolean, "ssl.allow.san.changes", "false"),
    setting(List, "ssl.cipher.suites", "").per_broker(),
    setting(String, "ssl.client.auth", "none").one_of(&["required", "requested", "none"]).per_broker(),
    setting(List, "ssl.enabled.protocols", "TLSv1.2,TLSv1.3").per_broker(),
    setting(String, "ssl.endpoint.identification.algorithm", "https").per_broker(),
    unset(Class, "ssl.engine.factory.class").per_broker(),
    unset(Password, "ssl.key.password").per_broker(),
    setting(String, "ssl.keymanager.algorithm", "SunX509").per_broker(),
    unset(Password, "ssl.keystore.certificate.chain").per_broker(),
    unset(Password, "ssl.keystore.key").per_broker(),
    unset(String, "ssl.keystore.location").per_broker(),
    unset(Password, "ssl.keystore.password").per_broker(),
    setting(String, "ssl.keystore.type", "JKS").per_broker(),
    setting(String, "ssl.principal.mapping.rules", "DEFAULT"),
    setting(String, "ssl.protocol", "TLSv1.3").per_broker(),
    unset(String, "ssl.provider").per_broker(),
    unset(String, "ssl.secure.random.implementation").per_broker(),
    setting(String, "ssl.trustmanager.algorithm", "PKIX").per_broker(),
    unset(Password, "ssl.truststore.certificates").per_broker(),
    unset(String, "ssl.truststore.location").per_broker(),
    unset(Password, "ssl.truststore.password").per_broker(),
    setting(String, "ssl.truststore.type", "JKS").per_broker(),
    setting(Int, "telemetry.max.bytes", "1048576").at_least(1),
    setting(Int, "transaction.abort.timed.out.transaction.cleanup.interval.ms", "10000").at_least(1).doc("How often transactions are looked for that take too long."),
    setting(Int, "transaction.max.timeout.ms", "900000").at_least(1).doc("The longest transaction.timeout.ms that a producer may ask for."),
    setting(Boolean, "transaction.partition.verification.enable", "true").cluster_wide().doc("Whether the coordinator is asked before a producer of the older protocol begins to write to a partition. Read at start."),
    setting(Int, "transaction.remove.expired.transaction.cleanup.interval.ms", "3600000").at_least(1).doc("How often transactional ids are looked for that nobody uses any more."),
    setting(Int, "transaction.state.log.load.buffer.size", "5242880").at_least(1),
    setting(Int, "transaction.state.log.min.isr", "2").at_least(1).doc("That topic's min.insync.replicas, as far as there are brokers."),
    setting(Int, "transaction.state.log.num.partitions", "50")
        .at_least(1)
        .doc("Partitions of __transaction_state when it is created."),
    setting(Short, "transaction.state.log.replication.factor", "3").at_least(1).doc("Replicas of that topic, as far as there are brokers."),
    setting(Int, "transaction.state.log.segment.bytes", "104857600").at_least(1).doc("That topic's segment.bytes."),
    setting(Boolean, "transaction.two.phase.commit.enable", "false"),
    setting(Int, "transactional.id.expiration.ms", "604800000").at_least(1).doc("A transactional id that is not used for so long is forgotten."),
    setting(Boolean, "unclean.leader.election.enable", "false").cluster_wide(),
];

package compat;

import static compat.Records.require;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** AdminTour BOOTSTRAP BASE_MS: a topic's life through the Admin client, every call and the errors that matter. */
final class AdminTour {
    private static final String TOPIC = "tour";
    private static final int RECORDS = 100;

    private final String bootstrap;
    private final long baseMs;
    private final Admin admin;

    private AdminTour(String bootstrap, long baseMs, Admin admin) {
        this.bootstrap = bootstrap;
        this.baseMs = baseMs;
        this.admin = admin;
    }

    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        try (Admin admin = Admin.create(properties)) {
            AdminTour tour = new AdminTour(args[0], Long.parseLong(args[1]), admin);
            tour.cluster();
            Uuid first = tour.create();
            tour.refuses();
            tour.describe(first);
            tour.configs();
            tour.partitions();
            tour.offsets();
            tour.deleteRecords();
            tour.deleteAndCreateAgain(first);
        }
    }

    private void cluster() throws Exception {
        DescribeClusterResult cluster = admin.describeCluster();
        require(cluster.nodes().get().size() == 1, "one node");
        require(cluster.clusterId().get() != null && !cluster.clusterId().get().isEmpty(), "a cluster id");
        require(cluster.controller().get().equals(cluster.nodes().get().iterator().next()), "the node is the controller");
    }

    private Uuid create() throws Exception {
        NewTopic topic = new NewTopic(TOPIC, 2, (short) 1)
                .configs(Map.of("retention.ms", "3600000", "cleanup.policy", "delete", "max.message.bytes", "200000"));
        admin.createTopics(List.of(topic), new CreateTopicsOptions().validateOnly(true)).all().get();
        require(!admin.listTopics().names().get().contains(TOPIC), "validate only does not create");

        CreateTopicsResult result = admin.createTopics(List.of(topic));
        require(result.numPartitions(TOPIC).get() == 2, "two partitions");
        require(result.replicationFactor(TOPIC).get() == 1, "one replica");
        require(result.config(TOPIC).get().get("retention.ms").value().equals("3600000"), "the answer shows the configs");

        admin.createTopics(List.of(new NewTopic("defaults", Optional.empty(), Optional.empty()))).all().get();
        eventually(() -> require(describe("defaults").partitions().size() == 3, "num.partitions of the broker"));
        return result.topicId(TOPIC).get();
    }

    private void refuses() throws Exception {
        fails(TopicExistsException.class, admin.createTopics(List.of(new NewTopic(TOPIC, 1, (short) 1))).all());
        fails(InvalidTopicException.class, admin.createTopics(List.of(new NewTopic("no/slash", 1, (short) 1))).all());
        fails(InvalidTopicException.class, admin.createTopics(List.of(new NewTopic("..", 1, (short) 1))).all());
        fails(InvalidTopicException.class, admin.createTopics(List.of(new NewTopic("x".repeat(250), 1, (short) 1))).all());
        fails(InvalidPartitionsException.class, admin.createTopics(List.of(new NewTopic("p", 0, (short) 1))).all());
        fails(InvalidReplicationFactorException.class, admin.createTopics(List.of(new NewTopic("r", 1, (short) 2))).all());
        NewTopic unknown = new NewTopic("c", 1, (short) 1).configs(Map.of("no.such.setting", "1"));
        fails(InvalidConfigurationException.class, admin.createTopics(List.of(unknown)).all());
        NewTopic invalid = new NewTopic("c", 1, (short) 1).configs(Map.of("retention.ms", "soon"));
        fails(InvalidConfigurationException.class, admin.createTopics(List.of(invalid)).all());
        admin.createTopics(List.of(new NewTopic("a.b", 1, (short) 1))).all().get();
        fails(InvalidTopicException.class, admin.createTopics(List.of(new NewTopic("a_b", 1, (short) 1))).all());
        fails(UnknownTopicOrPartitionException.class, admin.describeTopics(List.of("absent")).allTopicNames());
        fails(UnknownTopicOrPartitionException.class, admin.deleteTopics(List.of("absent")).all());
    }

    private void describe(Uuid id) throws Exception {
        eventually(() -> require(admin.listTopics().names().get().containsAll(Set.of(TOPIC, "defaults", "a.b")), "listed"));
        TopicDescription topic = describe(TOPIC);
        require(topic.topicId().equals(id) && !id.equals(Uuid.ZERO_UUID), "topic id " + topic.topicId());
        require(!topic.isInternal(), "not internal");
        require(topic.partitions().size() == 2, "two partitions");
        topic.partitions().forEach(p -> {
            require(p.leader() != null && p.replicas().size() == 1 && p.isr().equals(p.replicas()), "partition " + p);
        });
        TopicDescription byId = admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get().get(id);
        require(byId.name().equals(TOPIC), "found by its id");
    }

    private void configs() throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, TOPIC);
        Config before = config(resource);
        expect(before, "retention.ms", "3600000", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
        expect(before, "segment.bytes", "1073741824", ConfigEntry.ConfigSource.DEFAULT_CONFIG);
        require(before.get("retention.ms").type() == ConfigEntry.ConfigType.LONG, "type");
        require(!before.get("retention.ms").synonyms().isEmpty(), "synonyms");
        require(before.get("retention.ms").documentation() != null, "documentation");

        Collection<AlterConfigOp> ops = List.of(
                new AlterConfigOp(new ConfigEntry("retention.ms", "7200000"), OpType.SET),
                new AlterConfigOp(new ConfigEntry("max.message.bytes", ""), OpType.DELETE),
                new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), OpType.APPEND));
        admin.incrementalAlterConfigs(Map.of(resource, ops)).all().get();
        eventually(() -> {
            Config after = config(resource);
            expect(after, "retention.ms", "7200000", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
            expect(after, "max.message.bytes", "1048588", ConfigEntry.ConfigSource.DEFAULT_CONFIG);
            expect(after, "cleanup.policy", "delete,compact", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
        });

        AlterConfigOp subtract = new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), OpType.SUBTRACT);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(subtract))).all().get();
        eventually(() ->
                expect(config(resource), "cleanup.policy", "delete", ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG));

        AlterConfigOp wrong = new AlterConfigOp(new ConfigEntry("retention.ms", "soon"), OpType.SET);
        fails(InvalidConfigurationException.class, admin.incrementalAlterConfigs(Map.of(resource, List.of(wrong))).all());

        String node = "" + admin.describeCluster().nodes().get().iterator().next().id();
        Config broker = config(new ConfigResource(ConfigResource.Type.BROKER, node));
        expect(broker, "num.partitions", "3", ConfigEntry.ConfigSource.STATIC_BROKER_CONFIG);
        expect(broker, "log.segment.bytes", "1073741824", ConfigEntry.ConfigSource.DEFAULT_CONFIG);
        require(broker.get("log.dirs").isReadOnly(), "log.dirs cannot be changed");
    }

    private void partitions() throws Exception {
        admin.createPartitions(Map.of(TOPIC, NewPartitions.increaseTo(4))).all().get();
        eventually(() -> require(describe(TOPIC).partitions().size() == 4, "four partitions now"));
        fails(InvalidPartitionsException.class, admin.createPartitions(Map.of(TOPIC, NewPartitions.increaseTo(4))).all());
        fails(InvalidPartitionsException.class, admin.createPartitions(Map.of(TOPIC, NewPartitions.increaseTo(1))).all());
        fails(UnknownTopicOrPartitionException.class, admin.createPartitions(Map.of("absent", NewPartitions.increaseTo(4))).all());
    }

    private void produce(int partitions) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int i = 0; i < RECORDS * partitions; i++) producer.send(Records.record(TOPIC, partitions, i, baseMs));
        }
    }

    private void offsets() throws Exception {
        produce(4);
        expectOffset(OffsetSpec.earliest(), 0, -1);
        expectOffset(OffsetSpec.latest(), RECORDS, -1);
        expectOffset(OffsetSpec.maxTimestamp(), RECORDS - 1, baseMs + 4 * (RECORDS - 1) + 1);
        expectOffset(OffsetSpec.forTimestamp(baseMs + 4 * 10), 10, baseMs + 4 * 10 + 1);
        expectOffset(OffsetSpec.forTimestamp(baseMs + 4 * RECORDS), -1, -1);
        expectOffset(OffsetSpec.earliestLocal(), 0, -1);
        expectOffset(OffsetSpec.latestTiered(), -1, -1);
        expectOffset(OffsetSpec.earliestPendingUpload(), -1, -1);
    }

    private void deleteRecords() throws Exception {
        TopicPartition p = new TopicPartition(TOPIC, 1);
        long low = admin.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(30))).lowWatermarks().get(p).get().lowWatermark();
        require(low == 30, "low watermark " + low);
        expectOffset(OffsetSpec.earliest(), 30, -1);
        expectOffset(OffsetSpec.latest(), RECORDS, -1);
        expectOffset(OffsetSpec.forTimestamp(0), 30, baseMs + 4 * 30 + 1);
        fails(OffsetOutOfRangeException.class, admin.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(RECORDS + 1))).all());
        low = admin.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(-1))).lowWatermarks().get(p).get().lowWatermark();
        require(low == RECORDS, "everything is deleted up to " + low);
        expectOffset(OffsetSpec.earliest(), RECORDS, -1);
    }

    private void deleteAndCreateAgain(Uuid first) throws Exception {
        admin.deleteTopics(TopicCollection.ofTopicIds(List.of(first))).all().get();
        awaitAbsent(TOPIC);
        Uuid second = admin.createTopics(List.of(new NewTopic(TOPIC, 2, (short) 1))).topicId(TOPIC).get();
        require(!second.equals(first), "a new topic has a new id");
        eventually(() -> expectOffset(OffsetSpec.latest(), 0, -1));
        produce(2);
        Verify.topic(bootstrap, TOPIC, baseMs, 2 * RECORDS);
        admin.deleteTopics(List.of("defaults", "a.b")).all().get();
        awaitAbsent("defaults");
        awaitAbsent("a.b");
    }

    private void awaitAbsent(String topic) throws Exception {
        eventually(() -> require(!admin.listTopics().names().get().contains(topic), topic + " is still there"));
    }

    private interface Check {
        void run() throws Exception;
    }

    /** The controller may answer before the broker has applied the change, so what a check sees may be a little old. */
    private static void eventually(Check check) throws Exception {
        long deadline = System.currentTimeMillis() + 10_000;
        while (true) {
            try {
                check.run();
                return;
            } catch (AssertionError | ExecutionException e) {
                if (System.currentTimeMillis() > deadline) throw e;
            }
            Thread.sleep(20);
        }
    }

    private TopicDescription describe(String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    private Config config(ConfigResource resource) throws Exception {
        DescribeConfigsOptions options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        return admin.describeConfigs(List.of(resource), options).all().get().get(resource);
    }

    private static void expect(Config config, String name, String value, ConfigEntry.ConfigSource source) {
        ConfigEntry entry = config.get(name);
        require(entry != null, name + " is missing from " + names(config));
        require(value.equals(entry.value()), name + " is " + entry.value() + ", expected " + value);
        require(entry.source() == source, name + " comes from " + entry.source() + ", expected " + source);
    }

    private static Set<String> names(Config config) {
        return config.entries().stream().map(ConfigEntry::name).collect(Collectors.toSet());
    }

    private void expectOffset(OffsetSpec spec, long offset, long timestamp) throws Exception {
        TopicPartition p = new TopicPartition(TOPIC, 1);
        ListOffsetsResultInfo info = admin.listOffsets(Map.of(p, spec)).partitionResult(p).get();
        String at = spec.getClass().getSimpleName() + ": " + info;
        require(info.offset() == offset && info.timestamp() == timestamp, at + ", expected " + offset + " at " + timestamp);
    }

    private static void fails(Class<? extends Exception> expected, KafkaFuture<?> future) throws InterruptedException {
        try {
            future.get();
        } catch (ExecutionException e) {
            if (expected.isInstance(e.getCause())) return;
            throw new AssertionError("expected " + expected.getSimpleName(), e.getCause());
        }
        throw new AssertionError("expected " + expected.getSimpleName() + ", but it succeeded");
    }
}

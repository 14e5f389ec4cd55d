package compat;

import static compat.Records.bytes;
import static compat.Records.require;

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * RoundTrip BOOTSTRAP LEDGER ROUND kafka|ottla: checks that everything in a ledger file is there and nothing else, writes
 * all kinds of things, notes them in the ledger, and checks again. Transactions and groups only on Apache Kafka: the other
 * one has to serve what they left, not to run them.
 */
final class RoundTrip {
    private static final int PARTITIONS = 2;
    private static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");

    private final String bootstrap;
    private final Path ledger;
    private final String round;
    private final boolean kafka;
    private final StringBuilder notes = new StringBuilder();

    private RoundTrip(String[] args) {
        bootstrap = args[0];
        ledger = Path.of(args[1]);
        round = args[2];
        kafka = args[3].equals("kafka");
    }

    public static void main(String[] args) throws Exception {
        RoundTrip trip = new RoundTrip(args);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", trip.bootstrap))) {
            trip.verify(admin);
            trip.write(admin);
            trip.verify(admin);
        }
    }

    private void note(Object... fields) {
        for (int i = 0; i < fields.length; i++) notes.append(i == 0 ? "" : " ").append(fields[i]);
        notes.append('\n');
    }

    private void write(Admin admin) throws Exception {
        Set<String> topics = admin.listTopics().names().get();
        List<NewTopic> missing = new ArrayList<>();
        for (String name : List.of("plain", "transactions", "compacted", "made-" + round, "gone-" + round)) {
            if (topics.contains(name)) continue;
            Map<String, String> configs = new TreeMap<>(Map.of("segment.bytes", "1048576"));
            if (name.equals("compacted")) configs.put("cleanup.policy", "compact");
            missing.add(new NewTopic(name, PARTITIONS, (short) 1).configs(configs));
        }
        admin.createTopics(missing).all().get();
        for (String codec : CODECS) produce("plain", codec, 300);
        produce("made-" + round, "lz4", 50);
        produce("gone-" + round, "none", 50);
        produce("compacted", "none", 400);
        configure(admin, "plain", "retention.ms", "90000" + round);
        admin.deleteTopics(List.of("gone-" + round)).all().get();
        note("deleted", "gone-" + round);
        admin.createPartitions(Map.of("made-" + round, NewPartitions.increaseTo(PARTITIONS + 1))).all().get();
        if (kafka) {
            for (int i = 0; i < 6; i++) transaction(i);
            commitOffsets();
        } else {
            // The producer of a broker without transactions, in between theirs.
            produce("transactions", "none", 100);
        }
        Files.writeString(ledger, notes, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }

    private void configure(Admin admin, String topic, String key, String value) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        AlterConfigOp op = new AlterConfigOp(new ConfigEntry(key, value), OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(op))).all().get();
        note("config", topic, key, value);
    }

    private KafkaProducer<byte[], byte[]> producer(Map<String, String> settings) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.putAll(settings);
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private void send(KafkaProducer<byte[], byte[]> producer, String topic, String state, String what, int count)
            throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        List<String> values = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            String value = "round-" + round + "-" + what + "-" + i + "-" + "x".repeat(i % 400);
            values.add(value);
            sent.add(producer.send(new ProducerRecord<>(topic, i % PARTITIONS, bytes("key-" + i % 100), bytes(value))));
        }
        producer.flush();
        for (int i = 0; i < count; i++) {
            var at = sent.get(i).get();
            note(state, topic, at.partition(), at.offset(), "key-" + i % 100, values.get(i));
        }
    }

    private void produce(String topic, String codec, int count) throws Exception {
        try (var producer = producer(Map.of("compression.type", codec, "batch.size", "3000"))) {
            send(producer, topic, "record", codec, count);
        }
    }

    /** Every third aborts, two are open at once, and a batch without a transaction lies within. */
    private void transaction(int i) throws Exception {
        Map<String, String> other = Map.of("transactional.id", "other-" + round + "-" + i);
        Map<String, String> settings = Map.of("transactional.id", "main", "batch.size", "2000");
        try (var outer = producer(settings); var inner = producer(other)) {
            outer.initTransactions();
            inner.initTransactions();
            outer.beginTransaction();
            inner.beginTransaction();
            send(outer, "transactions", i % 3 == 1 ? "aborted" : "record", "outer-" + i, 800);
            send(inner, "transactions", i % 3 == 2 ? "aborted" : "record", "inner-" + i, 100);
            produce("transactions", "none", 20);
            if (i % 3 == 2) inner.abortTransaction();
            else inner.commitTransaction();
            Map<TopicPartition, OffsetAndMetadata> offsets =
                    Map.of(new TopicPartition("plain", 0), new OffsetAndMetadata(100 + i, "by transaction"));
            if (i % 3 == 1) {
                outer.abortTransaction();
            } else {
                outer.sendOffsetsToTransaction(offsets, new ConsumerGroupMetadata("transactional-group"));
                outer.commitTransaction();
                note("commit", "transactional-group", "plain", 0, 100 + i);
            }
        }
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, String> settings) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        properties.putAll(settings);
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private void commitOffsets() {
        for (String protocol : List.of("classic", "consumer")) {
            try (var consumer = consumer(Map.of("group.id", "group-" + protocol, "group.protocol", protocol))) {
                consumer.subscribe(List.of("plain"));
                while (consumer.poll(Duration.ofMillis(200)).isEmpty()) {}
                consumer.commitSync();
                for (TopicPartition p : consumer.assignment())
                    note("commit", "group-" + protocol, p.topic(), p.partition(), consumer.position(p));
            }
        }
    }

    /** What the ledger says. */
    private static final class Expected {
        final Map<TopicPartition, TreeMap<Long, String>> all = new HashMap<>();
        final Map<TopicPartition, TreeMap<Long, String>> committed = new HashMap<>();
        final Map<String, Map<String, String>> configs = new TreeMap<>();
        final Map<String, Map<TopicPartition, Long>> commits = new TreeMap<>();
        final Set<String> deleted = new TreeSet<>();
    }

    private Expected read() throws Exception {
        Expected expected = new Expected();
        if (!Files.exists(ledger)) return expected;
        for (String line : Files.readAllLines(ledger)) {
            String[] f = line.split(" ");
            switch (f[0]) {
                case "record":
                case "aborted":
                    TopicPartition p = new TopicPartition(f[1], Integer.parseInt(f[2]));
                    expected.all.computeIfAbsent(p, x -> new TreeMap<>()).put(Long.parseLong(f[3]), f[4] + "=" + f[5]);
                    TreeMap<Long, String> committed = expected.committed.computeIfAbsent(p, x -> new TreeMap<>());
                    if (f[0].equals("record")) committed.put(Long.parseLong(f[3]), f[4] + "=" + f[5]);
                    break;
                case "config":
                    expected.configs.computeIfAbsent(f[1], x -> new TreeMap<>()).put(f[2], f[3]);
                    break;
                case "commit":
                    expected.commits.computeIfAbsent(f[1], x -> new HashMap<>())
                            .put(new TopicPartition(f[2], Integer.parseInt(f[3])), Long.parseLong(f[4]));
                    break;
                case "deleted":
                    expected.deleted.add(f[1]);
                    break;
                default:
                    throw new AssertionError(line);
            }
        }
        expected.all.keySet().removeIf(p -> expected.deleted.contains(p.topic()));
        expected.committed.keySet().removeIf(p -> expected.deleted.contains(p.topic()));
        return expected;
    }

    private void verify(Admin admin) throws Exception {
        Expected expected = read();
        Set<String> topics = new TreeSet<>(admin.listTopics().names().get());
        Set<String> wanted = new TreeSet<>();
        expected.all.keySet().forEach(p -> wanted.add(p.topic()));
        require(topics.equals(wanted), "topics " + topics + ", expected " + wanted);
        check("read_uncommitted", expected.all);
        check("read_committed", expected.committed);
        for (var topic : expected.configs.entrySet()) {
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic.getKey());
            var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            topic.getValue().forEach((key, value) ->
                    require(config.get(key).value().equals(value), topic.getKey() + ": " + config.get(key)));
        }
        if (!kafka) return;
        for (var group : expected.commits.entrySet()) {
            var found = admin.listConsumerGroupOffsets(group.getKey()).partitionsToOffsetAndMetadata().get();
            group.getValue().forEach((p, offset) -> require(
                    found.get(p) != null && found.get(p).offset() == offset,
                    group.getKey() + " " + p + ": " + found.get(p) + ", expected " + offset));
        }
    }

    private void check(String isolation, Map<TopicPartition, TreeMap<Long, String>> expected) {
        try (var consumer = consumer(Map.of("isolation.level", isolation))) {
            for (var partition : expected.entrySet()) {
                TopicPartition p = partition.getKey();
                TreeMap<Long, String> got = consume(consumer, p);
                TreeMap<Long, String> wanted = partition.getValue();
                if (p.topic().equals("compacted")) {
                    got = latest(got);
                    wanted = latest(wanted);
                }
                require(got.size() == wanted.size(), isolation + " " + p + ": " + got.size() + " records, expected " + wanted.size());
                require(got.equals(wanted), isolation + " " + p + ": other records");
            }
        }
    }

    private static TreeMap<Long, String> consume(KafkaConsumer<byte[], byte[]> consumer, TopicPartition p) {
        consumer.assign(List.of(p));
        consumer.seekToBeginning(List.of(p));
        long end = consumer.endOffsets(List.of(p)).get(p);
        TreeMap<Long, String> got = new TreeMap<>();
        long deadline = System.currentTimeMillis() + 30_000;
        while (consumer.position(p) < end) {
            require(System.currentTimeMillis() < deadline, p + ": stuck at " + consumer.position(p) + " of " + end);
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200)))
                got.put(record.offset(), new String(record.key()) + "=" + new String(record.value()));
        }
        return got;
    }

    /** The last record of each key, which is what compaction leaves. */
    private static TreeMap<Long, String> latest(TreeMap<Long, String> records) {
        Map<String, Long> last = new HashMap<>();
        records.forEach((offset, record) -> last.put(record.substring(0, record.indexOf('=')), offset));
        TreeMap<Long, String> kept = new TreeMap<>();
        last.values().forEach(offset -> kept.put(offset, records.get(offset)));
        return kept;
    }
}

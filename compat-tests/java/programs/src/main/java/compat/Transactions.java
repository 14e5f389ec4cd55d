package compat;

import static compat.Records.require;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Transactions BOOTSTRAP PREFIX PART...: each part with topics and transactional ids of its own (PREFIX-...). Topics have 3
 * partitions, and the broker looks twice a second for transactions that take too long.
 */
final class Transactions {
    private static final int PARTITIONS = 3;
    private static final long PATIENCE_MS = 60_000;

    private final String bootstrap;
    private final String prefix;

    private Transactions(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
    }

    public static void main(String[] args) throws Exception {
        Transactions transactions = new Transactions(args[0], args[1]);
        for (int i = 2; i < args.length; i++) {
            switch (args[i]) {
                case "outcomes": transactions.outcomes(); break;
                case "fencing": transactions.fencing(); break;
                case "timeout": transactions.timeout(); break;
                case "transform": transactions.transform(); break;
                case "many": transactions.many(); break;
                case "leave": transactions.leave(); break;
                case "comeback": transactions.comeBack(); break;
                default: throw new IllegalArgumentException(args[i]);
            }
        }
    }

    /** Commits and aborts in turn: who reads committed records sees nothing of what is open or aborted. */
    private void outcomes() throws Exception {
        String topic = prefix + "-outcomes";
        Set<String> committed = new TreeSet<>();
        Set<String> all = new TreeSet<>();
        try (KafkaProducer<String, String> producer = producer("outcomes", 60_000)) {
            producer.initTransactions();
            for (int round = 0; round < 12; round++) {
                producer.beginTransaction();
                Set<String> values = new TreeSet<>();
                for (int i = 0; i < 30; i++) {
                    String value = String.format("%02d-%02d", round, i);
                    producer.send(new ProducerRecord<>(topic, i % PARTITIONS, null, value));
                    values.add(value);
                }
                producer.flush();
                all.addAll(values);
                if (round % 4 == 0) {
                    require(read(topic, "read_committed", committed.size()).equals(committed), "open: round " + round);
                    require(read(topic, "read_uncommitted", all.size()).equals(all), "uncommitted: round " + round);
                }
                if (round % 3 == 1) {
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                    committed.addAll(values);
                }
            }
            // Nothing was written, which is no mistake.
            producer.beginTransaction();
            producer.commitTransaction();
            producer.beginTransaction();
            producer.abortTransaction();
        }
        require(read(topic, "read_committed", committed.size()).equals(committed), "committed");
        require(read(topic, "read_uncommitted", all.size()).equals(all), "all");
    }

    /** A second producer with the same id: the first can do nothing more, and what it has written is aborted. */
    private void fencing() throws Exception {
        String topic = prefix + "-fencing";
        KafkaProducer<String, String> zombie = producer("fencing", 60_000);
        zombie.initTransactions();
        zombie.beginTransaction();
        zombie.send(new ProducerRecord<>(topic, 0, null, "zombie")).get();
        try (KafkaProducer<String, String> producer = producer("fencing", 60_000)) {
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, 0, null, "good")).get();
            requireFails("the zombie commits", () -> {
                zombie.send(new ProducerRecord<>(topic, 1, null, "zombie again"));
                zombie.commitTransaction();
            });
            producer.commitTransaction();
        }
        zombie.close(Duration.ZERO);
        require(read(topic, "read_committed", 1).equals(Set.of("good")), "only the good one");
    }

    /** A transaction that takes too long holds readers up, until it is aborted. */
    private void timeout() throws Exception {
        String topic = prefix + "-timeout";
        KafkaProducer<String, String> slow = producer("timeout", 2_000);
        slow.initTransactions();
        slow.beginTransaction();
        slow.send(new ProducerRecord<>(topic, 0, null, "slow")).get();
        try (KafkaProducer<String, String> quick = producer("quick", 60_000)) {
            quick.initTransactions();
            quick.beginTransaction();
            quick.send(new ProducerRecord<>(topic, 0, null, "quick")).get();
            quick.commitTransaction();
        }
        require(read(topic, "read_committed", 1).equals(Set.of("quick")), "the one that was in time");
        requireFails("too late", slow::commitTransaction);
        slow.close(Duration.ZERO);
    }

    /** From one topic to another, with offsets in the transaction: every record once, though every third try is aborted. */
    private void transform() throws Exception {
        String from = prefix + "-from";
        String to = prefix + "-to";
        int count = 300;
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(plain())) {
            for (int i = 0; i < count; i++) {
                producer.send(new ProducerRecord<>(from, i % PARTITIONS, null, String.format("%03d", i)));
            }
        }
        // Three lives, each of which leaves something undone behind.
        for (int life = 0; life < 3; life++) {
            transformOnce(from, to, life == 2 ? Integer.MAX_VALUE : 5);
        }
        Set<String> expected = new TreeSet<>();
        for (int i = 0; i < count; i++) expected.add(String.format("%03d", i));
        Set<String> moved = read(to, "read_committed", count);
        require(moved.equals(expected), "every record once: " + moved.size() + " of " + count);
    }

    private void transformOnce(String from, String to, int tries) {
        KafkaProducer<String, String> producer = producer("transform", 60_000);
        Properties settings = reader("read_committed");
        settings.put(ConsumerConfig.GROUP_ID_CONFIG, prefix + "-transform");
        settings.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, "10");
        KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings);
        producer.initTransactions();
        consumer.subscribe(List.of(from));
        long deadline = System.currentTimeMillis() + PATIENCE_MS;
        for (int attempt = 0; attempt < tries && !isDone(consumer, from); ) {
            require(System.currentTimeMillis() < deadline, "what is committed: " + consumer.committed(partitions(from)));
            ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
            if (records.isEmpty()) continue;
            attempt++;
            producer.beginTransaction();
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
            for (ConsumerRecord<String, String> record : records) {
                producer.send(new ProducerRecord<>(to, record.partition(), null, record.value()));
                TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                offsets.put(partition, new OffsetAndMetadata(record.offset() + 1));
            }
            producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
            if (attempt == tries) {
                // Left open: the next life aborts it.
                producer.flush();
            } else if (attempt % 3 == 0) {
                producer.abortTransaction();
                rewind(consumer);
            } else {
                producer.commitTransaction();
            }
        }
        consumer.close();
        producer.close(Duration.ZERO);
    }

    private static Set<TopicPartition> partitions(String topic) {
        Set<TopicPartition> partitions = new HashSet<>();
        for (int p = 0; p < PARTITIONS; p++) partitions.add(new TopicPartition(topic, p));
        return partitions;
    }

    /** All offsets are committed. */
    private static boolean isDone(KafkaConsumer<String, String> consumer, String topic) {
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(partitions(topic));
        Map<TopicPartition, Long> ends = consumer.endOffsets(partitions(topic));
        for (Map.Entry<TopicPartition, Long> end : ends.entrySet()) {
            OffsetAndMetadata offset = committed.get(end.getKey());
            if (offset == null || offset.offset() < end.getValue()) return false;
        }
        return true;
    }

    /** To what is committed, as after an abort. */
    private static void rewind(KafkaConsumer<String, String> consumer) {
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(consumer.assignment());
        for (TopicPartition partition : consumer.assignment()) {
            OffsetAndMetadata offset = committed.get(partition);
            if (offset == null) {
                consumer.seekToBeginning(List.of(partition));
            } else {
                consumer.seek(partition, offset);
            }
        }
    }

    /** Many short transactions on the same partitions at once. */
    private void many() throws Exception {
        String topic = prefix + "-many";
        int threads = 4;
        int transactions = 50;
        List<Thread> running = new ArrayList<>();
        List<Throwable> failures = new ArrayList<>();
        for (int t = 0; t < threads; t++) {
            String name = "many-" + t;
            Thread thread = new Thread(() -> {
                try (KafkaProducer<String, String> producer = producer(name, 60_000)) {
                    producer.initTransactions();
                    for (int i = 0; i < transactions; i++) {
                        producer.beginTransaction();
                        String value = String.format("%s-%03d", name, i);
                        for (int p = 0; p < PARTITIONS; p++) producer.send(new ProducerRecord<>(topic, p, null, value + "-" + p));
                        if (i % 5 == 4) {
                            producer.abortTransaction();
                        } else {
                            producer.commitTransaction();
                        }
                    }
                } catch (Throwable failure) {
                    synchronized (failures) {
                        failures.add(failure);
                    }
                }
            });
            thread.start();
            running.add(thread);
        }
        for (Thread thread : running) thread.join();
        if (!failures.isEmpty()) throw new AssertionError(failures.get(0));
        Set<String> expected = new TreeSet<>();
        for (int t = 0; t < threads; t++) {
            for (int i = 0; i < transactions; i++) {
                for (int p = 0; p < PARTITIONS && i % 5 != 4; p++) expected.add(String.format("many-%d-%03d-%d", t, i, p));
            }
        }
        require(read(topic, "read_committed", expected.size()).equals(expected), "all that was committed");
    }

    /** Commits one transaction, and dies in the middle of the next. */
    private void leave() throws Exception {
        String topic = prefix + "-left";
        KafkaProducer<String, String> producer = producer("left", 600_000);
        producer.initTransactions();
        producer.beginTransaction();
        for (int p = 0; p < PARTITIONS; p++) producer.send(new ProducerRecord<>(topic, p, null, "done-" + p));
        producer.commitTransaction();
        producer.beginTransaction();
        for (int p = 0; p < PARTITIONS; p++) producer.send(new ProducerRecord<>(topic, p, null, "undone-" + p));
        producer.flush();
        Runtime.getRuntime().halt(0);
    }

    /** The next life of that producer. */
    private void comeBack() throws Exception {
        String topic = prefix + "-left";
        try (KafkaProducer<String, String> producer = producer("left", 60_000)) {
            producer.initTransactions();
            producer.beginTransaction();
            for (int p = 0; p < PARTITIONS; p++) producer.send(new ProducerRecord<>(topic, p, null, "next-" + p));
            producer.commitTransaction();
        }
        Set<String> expected = Set.of("done-0", "done-1", "done-2", "next-0", "next-1", "next-2");
        require(read(topic, "read_committed", 6).equals(expected), "what was committed before and after");
    }

    private interface Attempt {
        void run() throws Exception;
    }

    private static void requireFails(String what, Attempt attempt) throws Exception {
        try {
            attempt.run();
        } catch (KafkaException expected) {
            return;
        }
        throw new AssertionError(what);
    }

    /** All values from the beginning on: those that must come, and for a little while what must not. */
    private Set<String> read(String topic, String isolation, int count) {
        List<String> values = new ArrayList<>();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(reader(isolation))) {
            Set<TopicPartition> partitions = partitions(topic);
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            long deadline = System.currentTimeMillis() + PATIENCE_MS;
            while (values.size() < count && System.currentTimeMillis() < deadline) poll(consumer, values);
            for (int i = 0; i < 3; i++) poll(consumer, values);
        }
        Set<String> distinct = new TreeSet<>(values);
        require(distinct.size() == values.size(), "a record came twice: " + values);
        return distinct;
    }

    private static void poll(KafkaConsumer<String, String> consumer, List<String> values) {
        for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) values.add(record.value());
    }

    private Properties plain() {
        Properties properties = new Properties();
        properties.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        properties.put(ProducerConfig.KEY_SERIALIZER_CLASS_CONFIG, StringSerializer.class.getName());
        properties.put(ProducerConfig.VALUE_SERIALIZER_CLASS_CONFIG, StringSerializer.class.getName());
        return properties;
    }

    private KafkaProducer<String, String> producer(String id, int timeoutMs) {
        Properties properties = plain();
        properties.put(ProducerConfig.TRANSACTIONAL_ID_CONFIG, prefix + "-" + id);
        properties.put(ProducerConfig.TRANSACTION_TIMEOUT_CONFIG, timeoutMs);
        properties.put(ProducerConfig.MAX_BLOCK_MS_CONFIG, PATIENCE_MS);
        return new KafkaProducer<>(properties);
    }

    private Properties reader(String isolation) {
        Properties properties = new Properties();
        properties.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        properties.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, StringDeserializer.class.getName());
        properties.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, StringDeserializer.class.getName());
        properties.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, isolation);
        properties.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        properties.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        return properties;
    }
}

package compat;

import static compat.Records.require;

import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.function.BooleanSupplier;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Groups BOOTSTRAP TOPIC COUNT GROUP PARTITIONS [SETTING=VALUE...]: members of one group share a topic, one leaves, the
 * other takes over, and what is committed stays. Settings: of the consumers; regex=true subscribes by pattern.
 */
final class Groups {
    private static final long PATIENCE_MS = 60_000;

    private final String bootstrap;
    private final String topic;
    private final String group;
    private final long count;
    private final int partitions;
    private final Properties settings = new Properties();
    private final Set<String> seen = ConcurrentHashMap.newKeySet();
    private final ConcurrentLinkedQueue<Throwable> failures = new ConcurrentLinkedQueue<>();

    private Groups(String[] args) {
        bootstrap = args[0];
        topic = args[1];
        count = Long.parseLong(args[2]);
        group = args[3];
        partitions = Integer.parseInt(args[4]);
        for (int i = 5; i < args.length; i++) {
            String[] setting = args[i].split("=", 2);
            settings.put(setting[0], setting[1]);
        }
    }

    public static void main(String[] args) throws Exception {
        Groups groups = new Groups(args);
        groups.share();
        groups.administer();
    }

    private void share() throws Exception {
        Member first = new Member("first", settings);
        first.await("all partitions", () -> first.assigned.size() == partitions);
        Member second = new Member("second", settings);
        first.await("half of the partitions",
                () -> first.assigned.size() == partitions / 2 && second.assigned.size() == partitions / 2);
        first.await("all records", () -> seen.size() == count);
        describe(2);
        second.close();
        first.await("all partitions again", () -> first.assigned.size() == partitions);
        first.close();
        Member third = new Member("third", settings);
        third.await("all partitions", () -> third.assigned.size() == partitions);
        Thread.sleep(500);
        require(third.records == 0, "what was committed came again: " + third.records);
        third.close();
    }

    private void describe(int members) throws Exception {
        try (Admin admin = admin()) {
            ConsumerGroupDescription group = admin.describeConsumerGroups(List.of(this.group)).all().get().get(this.group);
            require(group.members().size() == members, "members: " + group);
            int assigned = group.members().stream().mapToInt(m -> m.assignment().topicPartitions().size()).sum();
            require(assigned == partitions, "assigned: " + group);
        }
    }

    /** The group is empty: what is left are offsets, which can be listed, reset and deleted. */
    private void administer() throws Exception {
        try (Admin admin = admin()) {
            require(admin.listConsumerGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)), "not listed");
            awaitEmpty(admin);
            Map<TopicPartition, OffsetAndMetadata> offsets = offsets(admin);
            long sum = offsets.values().stream().mapToLong(OffsetAndMetadata::offset).sum();
            require(sum == count && offsets.size() == partitions, "committed: " + offsets);
            TopicPartition zero = new TopicPartition(topic, 0);
            admin.alterConsumerGroupOffsets(group, Map.of(zero, new OffsetAndMetadata(7, "reset"))).all().get();
            OffsetAndMetadata reset = offsets(admin).get(zero);
            require(reset.offset() == 7 && reset.metadata().equals("reset"), "reset: " + reset);
            admin.deleteConsumerGroupOffsets(group, Set.of(zero)).all().get();
            require(offsets(admin).size() == partitions - 1, "an offset is left: " + offsets(admin));
            admin.deleteConsumerGroups(List.of(group)).all().get();
            require(admin.listConsumerGroups().all().get().stream().noneMatch(g -> g.groupId().equals(group)), "still listed");
        }
    }

    /** Static members do not leave: their sessions end. */
    private void awaitEmpty(Admin admin) throws Exception {
        long deadline = System.currentTimeMillis() + PATIENCE_MS;
        while (!admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().isEmpty()) {
            require(System.currentTimeMillis() < deadline, "the group is not empty");
            Thread.sleep(100);
        }
    }

    private Map<TopicPartition, OffsetAndMetadata> offsets(Admin admin) throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
    }

    private Admin admin() {
        return Admin.create(Map.<String, Object>of(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap));
    }

    /** A consumer in a thread of its own. */
    private final class Member {
        private final Set<TopicPartition> assigned = ConcurrentHashMap.newKeySet();
        private final Thread thread;
        private volatile long records;
        private volatile boolean stop;

        Member(String name, Properties settings) {
            Properties properties = new Properties();
            properties.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
            properties.put(ConsumerConfig.GROUP_ID_CONFIG, group);
            properties.put(ConsumerConfig.CLIENT_ID_CONFIG, name);
            properties.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
            properties.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
            properties.putAll(settings);
            if (properties.remove("static") != null) properties.put(ConsumerConfig.GROUP_INSTANCE_ID_CONFIG, "i-" + name);
            thread = new Thread(() -> run(properties), name);
            thread.setDaemon(true);
            thread.start();
        }

        private void run(Properties properties) {
            Object regex = properties.remove("regex");
            try (KafkaConsumer<byte[], byte[]> consumer =
                    new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
                ConsumerRebalanceListener listener = new ConsumerRebalanceListener() {
                    @Override
                    public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
                        consumer.commitSync();
                        assigned.removeAll(revoked);
                    }

                    @Override
                    public void onPartitionsAssigned(Collection<TopicPartition> gained) {
                        assigned.addAll(gained);
                    }
                };
                if (regex == null) {
                    consumer.subscribe(List.of(topic), listener);
                } else if (regex.equals("server")) {
                    Server.subscribe(consumer, topic + ".*", listener);
                } else {
                    consumer.subscribe(Pattern.compile(topic + ".*"), listener);
                }
                while (!stop) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                        seen.add(record.partition() + "-" + record.offset());
                        records++;
                    }
                    if (!assigned.isEmpty()) commit(consumer);
                }
            } catch (Throwable e) {
                failures.add(e);
            }
        }

        /** A member that keeps its partitions during a rebalance may not commit until that is over. */
        private void commit(KafkaConsumer<?, ?> consumer) {
            try {
                consumer.commitSync();
            } catch (RebalanceInProgressException e) {
                // The next poll takes part in it, and the commit behind it.
            }
        }

        void await(String what, BooleanSupplier condition) throws Exception {
            long deadline = System.currentTimeMillis() + PATIENCE_MS;
            while (!condition.getAsBoolean()) {
                if (!failures.isEmpty()) throw new AssertionError("a member failed", failures.peek());
                require(System.currentTimeMillis() < deadline, thread.getName() + " waits for " + what + ", has " + assigned + ", records " + seen.size());
                Thread.sleep(20);
            }
        }

        void close() throws Exception {
            stop = true;
            thread.join();
            if (!failures.isEmpty()) throw new AssertionError("a member failed", failures.peek());
        }
    }

    /** What older clients do not have is loaded only where it is asked for. */
    private static final class Server {
        static void subscribe(KafkaConsumer<?, ?> consumer, String pattern, ConsumerRebalanceListener listener) {
            consumer.subscribe(new org.apache.kafka.clients.consumer.SubscriptionPattern(pattern), listener);
        }
    }
}

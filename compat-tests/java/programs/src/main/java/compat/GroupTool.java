package compat;

import static compat.Records.require;

import java.time.Duration;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * GroupTool BOOTSTRAP BASE_MS: prints what kafka-consumer-groups says of groups in several states, without what differs
 * from run to run. Runs with the jars of the broker, which have the tool.
 */
final class GroupTool {
    private static final Duration POLL = Duration.ofMillis(100);
    private static final long PATIENCE_MS = 60_000;
    private static final int RECORDS = 10;

    private final String bootstrap;
    private final long baseMs;
    private final Tool tool;

    private GroupTool(String bootstrap, long baseMs) throws Exception {
        this.bootstrap = bootstrap;
        this.baseMs = baseMs;
        tool = new Tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", bootstrap);
    }

    public static void main(String[] args) throws Exception {
        GroupTool tool = new GroupTool(args[0], Long.parseLong(args[1]));
        tool.produce("a", 2);
        tool.produce("b", 1);
        try (KafkaConsumer<byte[], byte[]> classic = tool.member("classic", "classic", List.of("a"));
                KafkaConsumer<byte[], byte[]> modern = tool.member("modern", "consumer", List.of("a", "b"))) {
            classic.commitSync(Map.of(new TopicPartition("a", 0), new OffsetAndMetadata(4)));
            modern.commitSync(Map.of(new TopicPartition("b", 0), new OffsetAndMetadata(7)));
            tool.commitAlone("alone");
            tool.look();
            tool.refused();
        }
        tool.change();
    }

    private void produce(String topic, int partitions) throws Exception {
        Properties properties = properties();
        try (Admin admin = Admin.create(properties)) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
        }
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int i = 0; i < RECORDS * partitions; i++) {
                producer.send(new ProducerRecord<>(topic, i % partitions, baseMs + i, null, new byte[10])).get();
            }
        }
    }

    /** One that has its partitions, and is heard of in the background. */
    private KafkaConsumer<byte[], byte[]> member(String group, String protocol, List<String> topics) {
        Properties properties = properties();
        properties.put("group.id", group);
        properties.put("client.id", "member-of-" + group);
        properties.put("group.protocol", protocol);
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.subscribe(topics);
        long deadline = System.currentTimeMillis() + PATIENCE_MS;
        while (consumer.assignment().size() < topics.size() + 1) {
            require(System.currentTimeMillis() < deadline, "assigned: " + consumer.assignment());
            consumer.poll(POLL);
        }
        tool.hide(consumer.groupMetadata().memberId(), "MEMBER-OF-" + group);
        return consumer;
    }

    private void commitAlone(String group) {
        Properties properties = properties();
        properties.put("group.id", group);
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            TopicPartition first = new TopicPartition("a", 0);
            TopicPartition second = new TopicPartition("a", 1);
            consumer.assign(List.of(first, second));
            consumer.commitSync(Map.of(first, new OffsetAndMetadata(3), second, new OffsetAndMetadata(10)));
        }
    }

    private void look() throws Exception {
        tool.run("--list");
        tool.run("--list --state");
        tool.run("--list --type");
        tool.run("--list --state Stable --type classic");
        for (String group : List.of("classic", "modern", "alone", "nobody")) {
            tool.run("--describe --group " + group);
            tool.run("--describe --group " + group + " --members");
            tool.run("--describe --group " + group + " --members --verbose");
            tool.run("--describe --group " + group + " --state");
            tool.run("--describe --group " + group + " --offsets --verbose");
        }
        tool.run("--describe --all-groups --state --verbose");
    }

    private void refused() throws Exception {
        for (String group : List.of("classic", "modern", "nobody")) {
            tool.run("--delete --group " + group);
            tool.run("--delete-offsets --group " + group + " --topic a");
            tool.run("--reset-offsets --to-earliest --group " + group + " --topic a --execute");
        }
    }

    /** Nobody is a member of anything any more. */
    private void change() throws Exception {
        for (String group : List.of("classic", "modern")) {
            tool.run("--describe --group " + group);
            tool.run("--describe --group " + group + " --state");
            tool.run("--reset-offsets --to-latest --group " + group + " --topic a --dry-run");
            tool.run("--reset-offsets --shift-by -2 --group " + group + " --all-topics --execute");
        }
        tool.run("--reset-offsets --to-earliest --group alone --topic a:1 --execute");
        tool.run("--reset-offsets --to-offset 99 --group alone --topic a:0 --execute");
        String time = LocalDateTime.ofEpochSecond((baseMs + 5) / 1000, (int) ((baseMs + 5) % 1000) * 1_000_000, ZoneOffset.UTC)
                .format(DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSS"));
        tool.hide(time, "TIME");
        tool.run("--reset-offsets --to-datetime " + time + " --group alone --all-topics --dry-run --export");
        tool.run("--reset-offsets --to-earliest --group new --topic b --execute");
        tool.run("--describe --group new");
        tool.run("--delete-offsets --group alone --topic a:0");
        tool.run("--delete-offsets --group alone --topic b");
        tool.run("--describe --group alone");
        tool.run("--delete --group classic --group modern --group nobody");
        tool.run("--list");
    }

    private Properties properties() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        return properties;
    }
}

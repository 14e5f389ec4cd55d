package compat;

import static compat.Records.require;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
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

    private final PrintStream out = System.out;
    private final String bootstrap;
    private final long baseMs;
    private final Method tool;
    /** What is printed instead of names that are made up in each run. */
    private final Map<String, String> names = new LinkedHashMap<>();

    private GroupTool(String bootstrap, long baseMs) throws Exception {
        this.bootstrap = bootstrap;
        this.baseMs = baseMs;
        tool = Class.forName("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand")
                .getMethod("main", String[].class);
        names.put(bootstrap, "BOOTSTRAP");
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
        names.put(consumer.groupMetadata().memberId(), "MEMBER-OF-" + group);
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
        run("--list");
        run("--list --state");
        run("--list --type");
        run("--list --state Stable --type classic");
        for (String group : List.of("classic", "modern", "alone", "nobody")) {
            run("--describe --group " + group);
            run("--describe --group " + group + " --members");
            run("--describe --group " + group + " --members --verbose");
            run("--describe --group " + group + " --state");
            run("--describe --group " + group + " --offsets --verbose");
        }
        run("--describe --all-groups --state --verbose");
    }

    private void refused() throws Exception {
        for (String group : List.of("classic", "modern", "nobody")) {
            run("--delete --group " + group);
            run("--delete-offsets --group " + group + " --topic a");
            run("--reset-offsets --to-earliest --group " + group + " --topic a --execute");
        }
    }

    /** Nobody is a member of anything any more. */
    private void change() throws Exception {
        for (String group : List.of("classic", "modern")) {
            run("--describe --group " + group);
            run("--describe --group " + group + " --state");
            run("--reset-offsets --to-latest --group " + group + " --topic a --dry-run");
            run("--reset-offsets --shift-by -2 --group " + group + " --all-topics --execute");
        }
        run("--reset-offsets --to-earliest --group alone --topic a:1 --execute");
        run("--reset-offsets --to-offset 99 --group alone --topic a:0 --execute");
        String time = LocalDateTime.ofEpochSecond((baseMs + 5) / 1000, (int) ((baseMs + 5) % 1000) * 1_000_000, ZoneOffset.UTC)
                .format(DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSS"));
        names.put(time, "TIME");
        run("--reset-offsets --to-datetime " + time + " --group alone --all-topics --dry-run --export");
        run("--reset-offsets --to-earliest --group new --topic b --execute");
        run("--describe --group new");
        run("--delete-offsets --group alone --topic a:0");
        run("--delete-offsets --group alone --topic b");
        run("--describe --group alone");
        run("--delete --group classic --group modern --group nobody");
        run("--list");
    }

    /** Lines in alphabetical order: brokers are free to order groups and partitions. */
    private void run(String command) throws Exception {
        List<String> arguments = new ArrayList<>(List.of("--bootstrap-server", bootstrap));
        arguments.addAll(Arrays.asList(command.split(" ")));
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        PrintStream before = System.err;
        try (PrintStream capture = new PrintStream(printed, true, StandardCharsets.UTF_8)) {
            System.setOut(capture);
            System.setErr(capture);
            tool.invoke(null, (Object) arguments.toArray(String[]::new));
        } finally {
            System.setOut(out);
            System.setErr(before);
        }
        out.println("> " + normal(command));
        printed.toString(StandardCharsets.UTF_8).lines()
                .filter(line -> !line.isBlank() && !line.startsWith("\tat "))
                .map(this::normal)
                .sorted()
                .forEach(out::println);
    }

    /** Columns are as wide as what is made up: one blank will do. */
    private String normal(String line) {
        for (Map.Entry<String, String> name : names.entrySet()) {
            line = line.replace(name.getKey(), name.getValue());
        }
        return line.replaceAll(" +", " ").strip();
    }

    private Properties properties() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        return properties;
    }
}

package compat;

import static compat.Records.require;

import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Tutorial BOOTSTRAP BASE_MS COUNT TOPIC: sends COUNT records to a topic that does not exist yet, as the tutorials do:
 * fire and forget, with a callback, and with get(), for every acks and every codec; then reads all of them back.
 */
final class Tutorial {
    // Not 0 first: what it sends while the topic is being created would be lost.
    private static final String[] ACKS = {"all", "1", "0"};
    private static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};

    private final String bootstrap;
    private final String topic;
    private final long baseMs;

    private Tutorial(String bootstrap, String topic, long baseMs) {
        this.bootstrap = bootstrap;
        this.topic = topic;
        this.baseMs = baseMs;
    }

    public static void main(String[] args) throws Exception {
        long count = Long.parseLong(args[2]);
        Tutorial tutorial = new Tutorial(args[0], args[3], Long.parseLong(args[1]));
        int runs = ACKS.length * CODECS.length;
        for (int run = 0; run < runs; run++) {
            String acks = ACKS[run % ACKS.length];
            tutorial.produce(acks, CODECS[run / ACKS.length], count * run / runs, count * (run + 1) / runs);
        }
        Verify.topic(args[0], args[3], tutorial.baseMs, count);
    }

    private Properties properties(String acks, String codec) {
        Properties properties = new Properties();
        properties.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        properties.put(ProducerConfig.ACKS_CONFIG, acks);
        properties.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, codec);
        properties.put(ProducerConfig.RETRIES_CONFIG, acks.equals("0") ? 0 : 10);
        properties.put(ProducerConfig.LINGER_MS_CONFIG, 5);
        if (!acks.equals("all")) properties.put(ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, "false");
        return properties;
    }

    /** Records from..to: 45% fire and forget, 45% with a callback, 10% one at a time with get(). */
    private void produce(String acks, String codec, long from, long to) throws Exception {
        AtomicLong called = new AtomicLong();
        AtomicReference<Throwable> failure = new AtomicReference<>();
        long callbacksFrom = from + (to - from) * 45 / 100;
        long getsFrom = from + (to - from) * 90 / 100;
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(properties(acks, codec), new ByteArraySerializer(), new ByteArraySerializer())) {
            int partitions = producer.partitionsFor(topic).size();
            for (long i = from; i < to; i++) {
                ProducerRecord<byte[], byte[]> record = Records.record(topic, partitions, i, baseMs);
                long number = i;
                if (i < callbacksFrom) {
                    producer.send(record);
                } else if (i < getsFrom) {
                    producer.send(record, (metadata, e) -> {
                        try {
                            if (e != null) throw e;
                            check(metadata, acks, partitions, number);
                        } catch (Throwable t) {
                            failure.compareAndSet(null, t);
                        }
                        called.incrementAndGet();
                    });
                } else {
                    check(producer.send(record).get(), acks, partitions, number);
                }
            }
            producer.flush();
        }
        if (failure.get() != null) throw new AssertionError("a callback failed", failure.get());
        require(called.get() == getsFrom - callbacksFrom, "callbacks: " + called.get());
        try (KafkaConsumer<byte[], byte[]> consumer = Verify.consumer(bootstrap)) {
            Verify.awaitEnd(consumer, Verify.partitions(consumer, topic), to);
        }
    }

    private void check(RecordMetadata metadata, String acks, int partitions, long i) {
        long expected = acks.equals("0") ? -1 : i / partitions;
        require(metadata.offset() == expected, "record " + i + " acknowledged at " + metadata.offset());
        require(metadata.timestamp() == baseMs + i, "record " + i + " acknowledged with time " + metadata.timestamp());
    }
}

package compat;

import static compat.Records.require;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Verify BOOTSTRAP BASE_MS COUNT TOPIC...: each topic holds exactly records 0..COUNT, found by every way to look. */
final class Verify {
    private static final Duration POLL = Duration.ofMillis(200);
    private static final long PATIENCE_MS = 60_000;

    public static void main(String[] args) {
        long baseMs = Long.parseLong(args[1]);
        long count = Long.parseLong(args[2]);
        for (int i = 3; i < args.length; i++) topic(args[0], args[i], baseMs, count);
    }

    static KafkaConsumer<byte[], byte[]> consumer(String bootstrap) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "none");
        properties.put("fetch.max.wait.ms", "100");
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static void topic(String bootstrap, String topic, long baseMs, long count) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(bootstrap)) {
            List<TopicPartition> partitions = partitions(consumer, topic);
            awaitEnd(consumer, partitions, count);
            consumer.assign(partitions);
            everything(consumer, partitions, baseMs, count);
            fromTheMiddle(consumer, partitions, baseMs, count);
            byTime(consumer, partitions, baseMs, count);
        }
    }

    static List<TopicPartition> partitions(KafkaConsumer<byte[], byte[]> consumer, String topic) {
        List<TopicPartition> partitions = new ArrayList<>();
        for (PartitionInfo p : consumer.partitionsFor(topic)) partitions.add(new TopicPartition(topic, p.partition()));
        return partitions;
    }

    /** Waits until the partitions hold `count` records: what was sent with acks=0 may still be under way. */
    static void awaitEnd(KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> partitions, long count) {
        long deadline = System.currentTimeMillis() + PATIENCE_MS;
        while (true) {
            long end = 0;
            for (long offset : consumer.endOffsets(partitions).values()) end += offset;
            if (end == count) return;
            require(end < count, "there are " + end + " records, expected " + count);
            require(System.currentTimeMillis() < deadline, "only " + end + " of " + count + " records arrived");
            try {
                Thread.sleep(20);
            } catch (InterruptedException e) {
                throw new AssertionError(e);
            }
        }
    }

    private static void everything(
            KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> partitions, long baseMs, long count) {
        for (long offset : consumer.beginningOffsets(partitions).values()) require(offset == 0, "begins at " + offset);
        consumer.seekToBeginning(partitions);
        Map<Integer, Long> next = new HashMap<>();
        long seen = 0;
        long deadline = System.currentTimeMillis() + PATIENCE_MS;
        while (seen < count) {
            require(System.currentTimeMillis() < deadline, "read only " + seen + " of " + count);
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                long offset = next.merge(record.partition(), 1L, Long::sum) - 1;
                Records.check(record, record.partition() + offset * partitions.size(), baseMs, offset);
                seen++;
            }
        }
        for (TopicPartition p : partitions) {
            require(consumer.position(p) == consumer.endOffsets(List.of(p)).get(p), "position is not the end");
        }
    }

    private static void fromTheMiddle(
            KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> partitions, long baseMs, long count) {
        for (TopicPartition p : partitions) {
            long end = consumer.endOffsets(List.of(p)).get(p);
            for (long offset : new long[] {end / 3, end / 2 + 1, end - 1}) {
                consumer.seek(p, offset);
                expectNext(consumer, partitions.size(), p, offset, baseMs);
            }
        }
    }

    private static void byTime(
            KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> partitions, long baseMs, long count) {
        for (long i : new long[] {0, count / 4, count / 2 + 1, count - partitions.size()}) {
            Map<TopicPartition, Long> query = new HashMap<>();
            for (TopicPartition p : partitions) query.put(p, baseMs + i);
            Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(query);
            for (TopicPartition p : partitions) {
                // The first record of this partition whose number is at least i.
                long offset = Math.max(0, (i - p.partition() + partitions.size() - 1) / partitions.size());
                OffsetAndTimestamp at = found.get(p);
                require(at != null && at.offset() == offset, p + " at time " + i + ": " + at + ", expected " + offset);
                require(at.timestamp() == baseMs + p.partition() + offset * partitions.size(), p + ": " + at);
                consumer.seek(p, offset);
                expectNext(consumer, partitions.size(), p, offset, baseMs);
            }
        }
        Map<TopicPartition, Long> late = new HashMap<>();
        for (TopicPartition p : partitions) late.put(p, baseMs + count);
        for (OffsetAndTimestamp at : consumer.offsetsForTimes(late).values()) {
            require(at == null, "found " + at + " after the last record");
        }
    }

    private static void expectNext(
            KafkaConsumer<byte[], byte[]> consumer, int partitionCount, TopicPartition p, long offset, long baseMs) {
        consumer.assignment().forEach(other -> {
            if (!other.equals(p)) consumer.pause(List.of(other));
        });
        long deadline = System.currentTimeMillis() + PATIENCE_MS;
        while (true) {
            require(System.currentTimeMillis() < deadline, "nothing at offset " + offset + " of " + p);
            List<ConsumerRecord<byte[], byte[]>> records = consumer.poll(POLL).records(p);
            if (records.isEmpty()) continue;
            for (ConsumerRecord<byte[], byte[]> record : records) {
                Records.check(record, p.partition() + offset * partitionCount, baseMs, offset);
                offset++;
            }
            break;
        }
        consumer.resume(consumer.paused());
    }
}

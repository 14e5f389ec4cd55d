package compat;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** Record number i of a test topic, the same in every language; src/records.rs says why it looks like this. */
final class Records {
    private Records() {}

    static byte[] key(long i) {
        return i % 10 == 3 ? null : bytes("key-" + i);
    }

    static byte[] value(long i) {
        if (i % 10 == 7) return null;
        if (i % 10 == 8) return new byte[0];
        return bytes("value-" + i + "-" + "x".repeat((int) (i % 100)));
    }

    static List<Header> headers(long i) {
        List<Header> headers = new ArrayList<>();
        switch ((int) (i % 4)) {
            case 1:
                headers.add(new RecordHeader("h", bytes("" + i)));
                break;
            case 2:
                headers.add(new RecordHeader("h", bytes("a" + i)));
                headers.add(new RecordHeader("h", bytes("b" + i)));
                break;
            case 3:
                headers.add(new RecordHeader("null", (byte[]) null));
                headers.add(new RecordHeader("empty", new byte[0]));
                break;
            default:
        }
        return headers;
    }

    /** Partition i % partitions; with one partition the choice is left to the producer. */
    static ProducerRecord<byte[], byte[]> record(String topic, int partitions, long i, long baseMs) {
        Integer partition = partitions == 1 ? null : (int) (i % partitions);
        return new ProducerRecord<>(topic, partition, baseMs + i, key(i), value(i), headers(i));
    }

    static void check(ConsumerRecord<byte[], byte[]> got, long i, long baseMs, long offset) {
        String at = got.topic() + "-" + got.partition() + " record " + i;
        require(got.offset() == offset, at + ": offset " + got.offset() + ", expected " + offset);
        require(Arrays.equals(got.key(), key(i)), at + ": key");
        require(Arrays.equals(got.value(), value(i)), at + ": value");
        require(got.timestamp() == baseMs + i, at + ": timestamp " + got.timestamp());
        require(Arrays.asList(got.headers().toArray()).equals(headers(i)), at + ": headers " + got.headers());
    }

    static void require(boolean condition, String message) {
        if (!condition) throw new AssertionError(message);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}

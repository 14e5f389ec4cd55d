package compat;

import java.io.BufferedWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * CrashProducer BOOTSTRAP TOPIC PARTITIONS NAME FILE: an idempotent producer that sends "NAME n" to partition
 * n % PARTITIONS until a line arrives on standard input, whatever happens to the broker meanwhile. FILE gets one line
 * "partition offset n" for each acknowledgement. Fails when any record fails.
 */
final class CrashProducer {
    public static void main(String[] args) throws Exception {
        String topic = args[1];
        int partitions = Integer.parseInt(args[2]);
        String name = args[3];
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        properties.put("acks", "all");
        properties.put("enable.idempotence", "true");
        properties.put("linger.ms", "2");
        properties.put("max.block.ms", "120000");
        properties.put("delivery.timeout.ms", "120000");
        properties.put("request.timeout.ms", "10000");
        properties.put("reconnect.backoff.ms", "20");
        properties.put("reconnect.backoff.max.ms", "200");
        properties.put("retry.backoff.ms", "20");
        properties.put("retry.backoff.max.ms", "200");

        AtomicReference<Exception> failure = new AtomicReference<>();
        try (BufferedWriter acks = Files.newBufferedWriter(Path.of(args[4]));
                KafkaProducer<byte[], byte[]> producer =
                        new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (long n = 0; System.in.available() == 0 && failure.get() == null; n++) {
                long number = n;
                ProducerRecord<byte[], byte[]> record =
                        new ProducerRecord<>(topic, (int) (n % partitions), null, Records.bytes(name + " " + n));
                producer.send(record, (metadata, e) -> {
                    try {
                        if (e != null) throw e;
                        acks.write(metadata.partition() + " " + metadata.offset() + " " + number + "\n");
                    } catch (Exception error) {
                        failure.compareAndSet(null, error);
                    }
                });
                if (n % 4 == 0) Thread.sleep(1);
            }
            producer.flush();
        }
        if (failure.get() != null) throw failure.get();
    }
}

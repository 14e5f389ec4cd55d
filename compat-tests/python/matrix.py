"""matrix.py BOOTSTRAP BASE_MS COUNT PREFIX: kafka-python sends records with every acks and codec to topics that do
not exist yet (PREFIX-codec-acks), and reads them back from the beginning, from the middle and by time."""

import sys
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

PATIENCE_S = 60


def key(i):
    return None if i % 10 == 3 else b"key-%d" % i


def value(i):
    if i % 10 == 7:
        return None
    if i % 10 == 8:
        return b""
    return b"value-%d-%s" % (i, b"x" * (i % 100))


def headers(i):
    # Other clients also send a header without a value; this one refuses to.
    return [
        [],
        [("h", b"%d" % i)],
        [("h", b"a%d" % i), ("h", b"b%d" % i)],
        [("a", b"a"), ("empty", b"")],
    ][i % 4]


def produce(bootstrap, topic, codec, acks, base_ms, count):
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        acks=acks,
        compression_type=None if codec == "none" else codec,
        enable_idempotence=acks == "all",
        linger_ms=5,
    )
    partitions = len(producer.partitions_for(topic))
    # What acks=0 sends before the partitions are there would be lost; this retries until they are.
    with KafkaConsumer(bootstrap_servers=bootstrap, group_id=None) as consumer:
        consumer.end_offsets([TopicPartition(topic, p) for p in range(partitions)])
    futures = [
        producer.send(topic, value(i), key(i), headers(i), i % partitions, base_ms + i) for i in range(count)
    ]
    producer.flush(PATIENCE_S)
    for i, future in enumerate(futures):
        offset = future.get(PATIENCE_S).offset
        assert offset == (-1 if acks == 0 else i // partitions), f"record {i} acknowledged at {offset}"
    producer.close()


def await_ends(consumer, partitions, count):
    """acks=0 may still be under way."""
    deadline = time.monotonic() + PATIENCE_S
    while sum(consumer.end_offsets(partitions).values()) < count:
        assert time.monotonic() < deadline, "not all records arrived"
        time.sleep(0.02)
    ends = consumer.end_offsets(partitions)
    assert sum(ends.values()) == count, ends
    return ends


def read(consumer, limit):
    """The next `limit` records of what is assigned."""
    deadline = time.monotonic() + PATIENCE_S
    seen = 0
    while seen < limit:
        assert time.monotonic() < deadline, f"read only {seen} of {limit}"
        for records in consumer.poll(timeout_ms=200).values():
            for record in records:
                yield record
                seen += 1


def check(record, partitions, offset, base_ms):
    i = record.partition + offset * partitions
    got = (record.offset, record.key, record.value, list(record.headers), record.timestamp)
    expected = (offset, key(i), value(i), headers(i), base_ms + i)
    assert got == expected, f"{record.topic} record {i}: {got}, expected {expected}"


def verify(bootstrap, topic, base_ms, count):
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="none", check_crcs=True, fetch_max_wait_ms=100
    )
    partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(partitions)
    ends = await_ends(consumer, partitions, count)
    assert set(consumer.beginning_offsets(partitions).values()) == {0}

    consumer.seek_to_beginning()
    positions = {p.partition: 0 for p in partitions}
    for record in read(consumer, count):
        check(record, len(partitions), positions[record.partition], base_ms)
        positions[record.partition] += 1

    def expect_at(partition, offset):
        consumer.assign([partition])
        consumer.seek(partition, offset)
        check(next(read(consumer, 1)), len(partitions), offset, base_ms)

    for partition, end in ends.items():
        for offset in (end // 3, end // 2 + 1, end - 1):
            expect_at(partition, offset)
    for i in (0, count // 4, count // 2 + 1, count - len(partitions)):
        for partition, found in consumer.offsets_for_times({p: base_ms + i for p in partitions}).items():
            offset = (i + len(partitions) - 1 - partition.partition) // len(partitions)
            assert found.offset == offset, f"{partition} at the time of record {i}: {found}, expected {offset}"
            expect_at(partition, offset)
    late = consumer.offsets_for_times({p: base_ms + count for p in partitions})
    assert set(late.values()) == {None}, late
    consumer.close()


def main():
    bootstrap, base_ms, count, prefix = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        for acks in (0, 1, "all"):
            topic = f"{prefix}-{codec}-{acks}"
            produce(bootstrap, topic, codec, acks, base_ms, count)
            verify(bootstrap, topic, base_ms, count)


main()

"""transactions.py kafka-python|confluent BOOTSTRAP TOPIC: transactions are committed and aborted, a zombie is fenced, and
offsets go with the records; consumers of both isolation levels see what they should."""

import sys
import time

PATIENCE_S = 30


class KafkaPython:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def producer(self, transactional_id):
        from kafka import KafkaProducer

        producer = KafkaProducer(bootstrap_servers=self.bootstrap, transactional_id=transactional_id)
        producer.init_transactions()
        return producer

    def send(self, producer, topic, value):
        producer.send(topic, value.encode()).get(PATIENCE_S)

    def send_offset(self, producer, group, topic, offset):
        from kafka import TopicPartition
        from kafka.structs import OffsetAndMetadata

        offsets = {TopicPartition(topic, 0): OffsetAndMetadata(offset, "", -1)}
        producer.send_offsets_to_transaction(offsets, group)

    def committed(self, group, topic):
        from kafka import KafkaConsumer, TopicPartition

        with KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group) as consumer:
            return consumer.committed(TopicPartition(topic, 0))

    def read(self, topic, isolation, count):
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap, isolation_level=isolation, auto_offset_reset="earliest"
        )
        consumer.assign([TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)])
        with consumer:
            return poll_all(lambda: sum(consumer.poll(timeout_ms=100).values(), []), lambda r: r.value, count)


class Confluent:
    def __init__(self, bootstrap):
        self.bootstrap = {"bootstrap.servers": bootstrap}

    def producer(self, transactional_id):
        from confluent_kafka import Producer

        producer = Producer({**self.bootstrap, "transactional.id": transactional_id})
        producer.init_transactions(PATIENCE_S)
        return producer

    def send(self, producer, topic, value):
        producer.produce(topic, value.encode())
        producer.flush(PATIENCE_S)

    def consumer(self, group, isolation):
        from confluent_kafka import Consumer

        settings = {"group.id": group, "isolation.level": isolation, "auto.offset.reset": "earliest"}
        return Consumer({**self.bootstrap, **settings})

    def send_offset(self, producer, group, topic, offset):
        from confluent_kafka import TopicPartition

        consumer = self.consumer(group, "read_committed")
        metadata = consumer.consumer_group_metadata()
        producer.send_offsets_to_transaction([TopicPartition(topic, 0, offset)], metadata, PATIENCE_S)
        consumer.close()

    def committed(self, group, topic):
        from confluent_kafka import TopicPartition

        consumer = self.consumer(group, "read_committed")
        [partition] = consumer.committed([TopicPartition(topic, 0)], PATIENCE_S)
        consumer.close()
        return partition.offset

    def read(self, topic, isolation, count):
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        consumer = self.consumer("readers", isolation)
        partitions = consumer.list_topics(topic).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        values = poll_all(lambda: consumer.consume(100, 0.1), lambda message: message.value(), count)
        consumer.close()
        return values


def poll_all(poll, value, count):
    """What comes until there are count values, and for a little while what must not come."""
    values, end = [], time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        values += [value(record).decode() for record in poll()]
        if len(values) >= count:
            end = min(end, time.monotonic() + 0.5)
    return sorted(values)


def main():
    name, bootstrap, topic = sys.argv[1:]
    client = {"kafka-python": KafkaPython, "confluent": Confluent}[name](bootstrap)
    producer = client.producer("p")
    committed, everything = [], []
    for round, end in enumerate(["commit", "abort", "commit"]):
        producer.begin_transaction()
        values = [f"{round}-{i}" for i in range(10)]
        for value in values:
            client.send(producer, topic, value)
        client.send_offset(producer, "g", topic, 10 + round)
        everything += values
        if end == "commit":
            producer.commit_transaction()
            committed += values
        else:
            producer.abort_transaction()
        expected = 10 if round < 2 else 12
        assert client.committed("g", topic) == expected, f"offset after round {round}"

    producer.begin_transaction()
    client.send(producer, topic, "zombie")
    after = client.producer("p")
    after.begin_transaction()
    client.send(after, topic, "after")
    after.commit_transaction()
    try:
        producer.commit_transaction()
    except Exception as error:
        assert "ence" in str(error) + type(error).__name__, error
    else:
        raise AssertionError("the zombie was not fenced")
    committed += ["after"]
    everything += ["zombie", "after"]
    for isolation, expected in [("read_committed", committed), ("read_uncommitted", everything)]:
        values = client.read(topic, isolation, len(expected))
        assert values == sorted(expected), f"{isolation}: {values}"


main()

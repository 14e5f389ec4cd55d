"""groups.py BOOTSTRAP TOPIC COUNT GROUP PARTITIONS: two kafka-python consumers share a topic, one leaves, the other takes
over and reads to the end; what is committed stays."""

import sys
import threading
import time

from kafka import KafkaConsumer

PATIENCE_S = 60


class Member:
    """A consumer in a thread of its own."""

    def __init__(self, bootstrap, topic, group, seen):
        self.consumer = KafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=500,
        )
        self.seen, self.assigned, self.failure, self.stop = seen, 0, None, False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while not self.stop:
                for partition, records in self.consumer.poll(timeout_ms=100).items():
                    self.seen.update((partition.partition, record.offset) for record in records)
                self.assigned = len(self.consumer.assignment())
                if self.assigned:
                    self.commit()
        except Exception as failure:
            self.failure = failure
        finally:
            self.consumer.close()

    def commit(self):
        try:
            self.consumer.commit()
        except Exception as error:
            # A rebalance is under way: the next poll takes part in it.
            if "Rebalance" not in type(error).__name__ and "CommitFailed" not in type(error).__name__:
                raise

    def close(self):
        self.stop = True
        self.thread.join()


def main():
    bootstrap, topic, count, group, partitions = sys.argv[1:]
    count, partitions, seen = int(count), int(partitions), set()
    members = []

    def join():
        members.append(Member(bootstrap, topic, group, seen))
        return members[-1]

    def wait(what, condition):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            for member in members:
                if member.failure:
                    raise member.failure
            assert time.monotonic() < deadline, (what, [m.assigned for m in members], len(seen))
            time.sleep(0.02)

    try:
        first = join()
        wait("all partitions", lambda: first.assigned == partitions)
        second = join()
        wait("halves", lambda: first.assigned == second.assigned == partitions // 2)
        wait("all records", lambda: len(seen) == count)
        second.close()
        wait("all partitions again", lambda: first.assigned == partitions)
    finally:
        for member in members:
            member.close()


main()

// matrix.js BOOTSTRAP BASE_MS COUNT PREFIX: KafkaJS sends the known records with every acks, with and without gzip, to
// topics that do not exist yet (PREFIX-codec-acks), and looks up their offsets. It only reads as a member of a group, so
// another client reads them back.
"use strict";

const assert = require("node:assert");
const { CompressionTypes, Kafka, logLevel } = require("kafkajs");

const PARTITIONS = 3;

const key = (i) => (i % 10 === 3 ? null : `key-${i}`);

function value(i) {
  if (i % 10 === 7) return null;
  if (i % 10 === 8) return Buffer.alloc(0);
  return `value-${i}-${"x".repeat(i % 100)}`;
}

// Other clients also send a header without a value; this one cannot.
const headers = (i) => [{}, { h: `${i}` }, { h: [`a${i}`, `b${i}`] }, { a: "a", empty: Buffer.alloc(0) }][i % 4];

async function main() {
  const [bootstrap, baseMs, count, prefix] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4]), process.argv[5]];
  const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.ERROR });
  const [producer, admin] = [kafka.producer(), kafka.admin()];
  await producer.connect();
  await admin.connect();
  for (const [codec, compression] of [["none", CompressionTypes.None], ["gzip", CompressionTypes.GZIP]]) {
    for (const acks of [-1, 1, 0]) {
      await produce(admin, producer, `${prefix}-${codec}-${acks}`, { acks, compression }, baseMs, count);
    }
  }
  await producer.disconnect();
  await admin.disconnect();
}

async function produce(admin, producer, topic, options, baseMs, count) {
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: PARTITIONS, replicationFactor: 1 }] });
  for (let from = 0; from < count; from += 500) {
    const numbers = Array.from({ length: Math.min(500, count - from) }, (_, n) => from + n);
    const messages = numbers.map((i) => {
      return { partition: i % PARTITIONS, key: key(i), value: value(i), headers: headers(i), timestamp: `${baseMs + i}` };
    });
    await producer.send({ topic, messages, ...options });
  }
  const end = async () => (await admin.fetchTopicOffsets(topic)).reduce((sum, p) => sum + Number(p.high), 0);
  while ((await end()) < count) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.strictEqual(await end(), count);
  for (const { partition, offset } of await admin.fetchTopicOffsetsByTimestamp(topic, baseMs + count / 2)) {
    assert.strictEqual(Number(offset), Math.ceil((count / 2 - partition) / PARTITIONS));
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

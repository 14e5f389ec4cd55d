// groups.js BOOTSTRAP TOPIC COUNT GROUP PARTITIONS: two KafkaJS consumers share a topic, one leaves, the other takes over
// and reads to the end; what is committed stays.
"use strict";

const { Kafka, logLevel } = require("kafkajs");

const PATIENCE_MS = 60_000;
const [bootstrap, topic, count, group, partitions] = process.argv.slice(2);
const seen = new Set();
const members = [];

async function join(name) {
  const kafka = new Kafka({ clientId: name, brokers: [bootstrap], logLevel: logLevel.ERROR });
  const consumer = kafka.consumer({ groupId: group, sessionTimeout: 10_000, heartbeatInterval: 500 });
  const member = { consumer, assigned: 0 };
  members.push(member);
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    member.assigned = (payload.memberAssignment[topic] || []).length;
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({
    autoCommitThreshold: 1,
    eachMessage: async ({ partition, message }) => void seen.add(`${partition}-${message.offset}`),
  });
  return member;
}

async function wait(what, condition) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`${what}: ${members.map((m) => m.assigned)}, ${seen.size} records`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function main() {
  const first = await join("first");
  await wait("all partitions", () => first.assigned === Number(partitions));
  const second = await join("second");
  await wait("halves", () => members.every((member) => member.assigned === Number(partitions) / 2));
  await wait("all records", () => seen.size === Number(count));
  await second.consumer.disconnect();
  await wait("all partitions again", () => first.assigned === Number(partitions));
  await first.consumer.disconnect();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

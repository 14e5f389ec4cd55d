package compat;

import static compat.Records.require;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.FinalizedVersionRange;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionListing;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidUpdateVersionException;
import org.apache.kafka.common.serialization.StringSerializer;

/** TransactionsAdmin BOOTSTRAP: what an administrator sees of transactions, and can do about them. */
final class TransactionsAdmin {
    private static final String TOPIC = "admin";
    private static final TopicPartition ZERO = new TopicPartition(TOPIC, 0);

    private final String bootstrap;
    private final Admin admin;

    private TransactionsAdmin(String bootstrap) {
        this.bootstrap = bootstrap;
        admin = Admin.create(Map.<String, Object>of(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap));
    }

    public static void main(String[] args) throws Exception {
        TransactionsAdmin tour = new TransactionsAdmin(args[0]);
        tour.look();
        tour.abort();
        tour.features();
        tour.admin.close();
    }

    private void look() throws Exception {
        try (KafkaProducer<String, String> producer = producer("pay")) {
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(TOPIC, 0, null, "v")).get();
            TransactionDescription open = describe("pay");
            require(open.state() == TransactionState.ONGOING, "state: " + open);
            require(open.topicPartitions().equals(Set.of(ZERO)), "partitions: " + open);
            require(open.transactionTimeoutMs() == 60_000, "timeout: " + open);
            require(open.transactionStartTimeMs().isPresent(), "start: " + open);
            ProducerState state = producerState(open.producerId());
            require(state.currentTransactionStartOffset().orElse(-1) == 0, "open here: " + state);
            require(state.producerEpoch() == open.producerEpoch() && state.lastSequence() == 0, "the producer: " + state);
            require(list(new ListTransactionsOptions()).equals(Set.of("pay")), "all");
            require(list(new ListTransactionsOptions().filterStates(Set.of(TransactionState.EMPTY))).isEmpty(), "empty");
            require(list(new ListTransactionsOptions().filterOnTransactionalIdPattern("p.*")).size() == 1, "pattern");
            require(list(new ListTransactionsOptions().filterProducerIds(Set.of(open.producerId()))).size() == 1, "id");
            require(list(new ListTransactionsOptions().filterOnDuration(600_000)).isEmpty(), "long ones");
            producer.commitTransaction();
        }
        await("complete", () -> describe("pay").state() == TransactionState.COMPLETE_COMMIT);
        require(describe("pay").topicPartitions().isEmpty(), "no partitions are left");
    }

    /** A partition whose transaction hangs is set free by hand; the coordinator can be told to fence a producer. */
    private void abort() throws Exception {
        KafkaProducer<String, String> producer = producer("hang");
        producer.initTransactions();
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(TOPIC, 0, null, "hangs")).get();
        long producerId = describe("hang").producerId();
        ProducerState state = producerState(producerId);
        admin.abortTransaction(new AbortTransactionSpec(
                ZERO, producerId, (short) (state.producerEpoch() + 1), state.coordinatorEpoch().orElse(0))).all().get();
        require(producerState(producerId).currentTransactionStartOffset().isEmpty(), "nothing is open here any more");
        admin.fenceProducers(List.of("hang")).all().get();
        await("fenced", () -> describe("hang").state() == TransactionState.EMPTY
                || describe("hang").state() == TransactionState.COMPLETE_ABORT);
        producer.close(Duration.ZERO);
    }

    private void features() throws Exception {
        require(level() == 2, "the newest to begin with");
        try {
            update(1, FeatureUpdate.UpgradeType.UPGRADE);
            throw new AssertionError("this is no upgrade");
        } catch (ExecutionException e) {
            require(e.getCause() instanceof InvalidUpdateVersionException, "refused with " + e.getCause());
        }
        update(1, FeatureUpdate.UpgradeType.SAFE_DOWNGRADE);
        await("downgraded", () -> level() == 1);
        try (KafkaProducer<String, String> producer = producer("classic")) {
            producer.initTransactions();
            for (int i = 0; i < 5; i++) {
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(TOPIC, 0, null, "v"));
                producer.commitTransaction();
            }
        }
        require(describe("classic").producerEpoch() == 0, "the epoch does not rise: " + describe("classic"));
        update(2, FeatureUpdate.UpgradeType.UPGRADE);
        await("upgraded", () -> level() == 2);
    }

    private short level() throws Exception {
        FinalizedVersionRange range = admin.describeFeatures().featureMetadata().get().finalizedFeatures().get("transaction.version");
        return range == null ? 0 : range.maxVersionLevel();
    }

    private void update(int level, FeatureUpdate.UpgradeType type) throws Exception {
        Map<String, FeatureUpdate> updates = Map.of("transaction.version", new FeatureUpdate((short) level, type));
        admin.updateFeatures(updates, new UpdateFeaturesOptions()).all().get();
    }

    private TransactionDescription describe(String id) throws Exception {
        return admin.describeTransactions(List.of(id)).all().get().get(id);
    }

    private ProducerState producerState(long id) throws Exception {
        return admin.describeProducers(List.of(ZERO)).partitionResult(ZERO).get().activeProducers().stream()
                .filter(state -> state.producerId() == id).findFirst().orElseThrow();
    }

    private Set<String> list(ListTransactionsOptions options) throws Exception {
        return admin.listTransactions(options).all().get().stream().map(TransactionListing::transactionalId)
                .collect(java.util.stream.Collectors.toSet());
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void await(String what, Condition condition) throws Exception {
        long deadline = System.currentTimeMillis() + 30_000;
        while (!condition.holds()) {
            require(System.currentTimeMillis() < deadline, what);
            Thread.sleep(20);
        }
    }

    private KafkaProducer<String, String> producer(String id) {
        Properties properties = new Properties();
        properties.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        properties.put(ProducerConfig.TRANSACTIONAL_ID_CONFIG, id);
        properties.put(ProducerConfig.KEY_SERIALIZER_CLASS_CONFIG, StringSerializer.class.getName());
        properties.put(ProducerConfig.VALUE_SERIALIZER_CLASS_CONFIG, StringSerializer.class.getName());
        return new KafkaProducer<>(properties);
    }
}

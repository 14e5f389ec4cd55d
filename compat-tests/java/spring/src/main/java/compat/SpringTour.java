package compat;

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.kafka.annotation.BackOff;
import org.springframework.kafka.annotation.DltHandler;
import org.springframework.kafka.annotation.EnableKafka;
import org.springframework.kafka.annotation.EnableKafkaRetryTopic;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.annotation.RetryableTopic;
import org.springframework.kafka.config.ConcurrentKafkaListenerContainerFactory;
import org.springframework.kafka.config.TopicBuilder;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaAdmin;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.ConcurrentMessageListenerContainer;
import org.springframework.kafka.requestreply.ReplyingKafkaTemplate;
import org.springframework.kafka.transaction.KafkaTransactionManager;
import org.springframework.messaging.handler.annotation.SendTo;
import org.springframework.scheduling.TaskScheduler;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;

/**
 * SpringTour BOOTSTRAP: what applications with spring-kafka do. Topics are made by its admin; orders become invoices in
 * transactions that the container begins and one of which fails at first; invoices are read by a group of the consumer
 * protocol; a parcel that nobody can deliver goes through its retry topics to the dead letters; a question is answered.
 */
@Configuration
@EnableKafka
@EnableKafkaRetryTopic
public class SpringTour {
    private static final int ORDERS = 300;
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    private static String bootstrap;
    private static final ConcurrentLinkedQueue<String> INVOICES = new ConcurrentLinkedQueue<>();
    private static final ConcurrentLinkedQueue<String> DELIVERED = new ConcurrentLinkedQueue<>();
    private static final ConcurrentLinkedQueue<String> DEAD = new ConcurrentLinkedQueue<>();
    private static final AtomicInteger ATTEMPTS = new AtomicInteger();
    private static final AtomicBoolean FAILED_ONCE = new AtomicBoolean();

    private static Map<String, Object> consumer(Map<String, Object> more) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("key.deserializer", StringDeserializer.class);
        settings.put("value.deserializer", StringDeserializer.class);
        settings.put("auto.offset.reset", "earliest");
        settings.put("isolation.level", "read_committed");
        settings.putAll(more);
        return settings;
    }

    private static DefaultKafkaProducerFactory<String, String> producers() {
        return new DefaultKafkaProducerFactory<>(
                Map.of("bootstrap.servers", bootstrap), new StringSerializer(), new StringSerializer());
    }

    private static ConcurrentKafkaListenerContainerFactory<String, String> listeners(Map<String, Object> more) {
        var factory = new ConcurrentKafkaListenerContainerFactory<String, String>();
        factory.setConsumerFactory(new DefaultKafkaConsumerFactory<>(consumer(more)));
        return factory;
    }

    @Bean
    KafkaAdmin admin() {
        return new KafkaAdmin(Map.of("bootstrap.servers", bootstrap));
    }

    @Bean
    KafkaAdmin.NewTopics topics() {
        return new KafkaAdmin.NewTopics(
                topic("orders"), topic("invoices"), topic("parcels"), topic("questions"), topic("answers"));
    }

    private static NewTopic topic(String name) {
        return TopicBuilder.name(name).partitions(3).replicas(1).build();
    }

    @Bean
    KafkaTemplate<String, String> defaultRetryTopicKafkaTemplate() {
        return new KafkaTemplate<>(producers());
    }

    @Bean
    KafkaTemplate<String, String> transactional() {
        var factory = producers();
        factory.setTransactionIdPrefix("spring-");
        return new KafkaTemplate<>(factory);
    }

    @Bean
    ConcurrentKafkaListenerContainerFactory<String, String> kafkaListenerContainerFactory() {
        var factory = listeners(Map.of());
        factory.setReplyTemplate(defaultRetryTopicKafkaTemplate());
        return factory;
    }

    @Bean
    ConcurrentKafkaListenerContainerFactory<String, String> exactlyOnce() {
        var factory = listeners(Map.of());
        factory.setConcurrency(3);
        factory.getContainerProperties()
                .setKafkaAwareTransactionManager(new KafkaTransactionManager<>(transactional().getProducerFactory()));
        return factory;
    }

    @Bean
    ConcurrentKafkaListenerContainerFactory<String, String> consumerProtocol() {
        return listeners(Map.of("group.protocol", "consumer"));
    }

    @Bean
    TaskScheduler scheduler() {
        return new ThreadPoolTaskScheduler();
    }

    @Bean
    ReplyingKafkaTemplate<String, String, String> asking() {
        ConcurrentMessageListenerContainer<String, String> replies = listeners(Map.of()).createContainer("answers");
        replies.getContainerProperties().setGroupId("askers");
        return new ReplyingKafkaTemplate<>(producers(), replies);
    }

    @Bean
    Listeners listeners() {
        return new Listeners(transactional());
    }

    /** What the containers call. */
    static class Listeners {
        private final KafkaTemplate<String, String> transactional;

        Listeners(KafkaTemplate<String, String> transactional) {
            this.transactional = transactional;
        }

        @KafkaListener(topics = "orders", groupId = "billing", containerFactory = "exactlyOnce")
        void bill(String order) {
            transactional.send("invoices", "invoice for " + order);
            if (order.equals("order 7") && FAILED_ONCE.compareAndSet(false, true)) {
                throw new IllegalStateException("the first attempt at " + order + " fails");
            }
        }

        @KafkaListener(topics = "invoices", groupId = "audit", containerFactory = "consumerProtocol")
        void audit(String invoice) {
            INVOICES.add(invoice);
        }

        @RetryableTopic(attempts = "3", backOff = @BackOff(delay = 200))
        @KafkaListener(topics = "parcels", groupId = "couriers")
        void deliver(String parcel) {
            if (parcel.equals("lost")) {
                ATTEMPTS.incrementAndGet();
                throw new IllegalStateException("cannot be delivered");
            }
            DELIVERED.add(parcel);
        }

        @DltHandler
        void bury(String parcel) {
            DEAD.add(parcel);
        }

        @KafkaListener(topics = "questions", groupId = "oracles")
        @SendTo
        String answer(String question) {
            return "answer to " + question;
        }
    }

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        try (var context = new AnnotationConfigApplicationContext(SpringTour.class)) {
            KafkaTemplate<String, String> transactional = context.getBean("transactional", KafkaTemplate.class);
            transactional.executeInTransaction(template -> {
                for (int i = 0; i < ORDERS; i++) {
                    template.send("orders", Integer.toString(i), "order " + i);
                }
                return null;
            });
            KafkaTemplate<String, String> plain = context.getBean("defaultRetryTopicKafkaTemplate", KafkaTemplate.class);
            for (String parcel : List.of("small", "lost", "large")) {
                plain.send("parcels", parcel).get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
            }
            ReplyingKafkaTemplate<String, String, String> asking = context.getBean(ReplyingKafkaTemplate.class);
            check(asking.waitForAssignment(PATIENCE), "replies are listened for");
            var reply = asking.sendAndReceive(new ProducerRecord<>("questions", "why"), PATIENCE).get();
            check(reply.value().equals("answer to why"), "the answer is " + reply.value());

            await("all invoices", () -> INVOICES.size() >= ORDERS);
            await("dead letters", () -> !DEAD.isEmpty());
            await("parcels", () -> DELIVERED.size() == 2);
            Thread.sleep(500); // for what must not come
            check(FAILED_ONCE.get(), "one order failed at first");
            check(INVOICES.size() == ORDERS && INVOICES.stream().distinct().count() == ORDERS, "each order has one invoice");
            check(ATTEMPTS.get() == 3 && DEAD.size() == 1, ATTEMPTS + " attempts, dead letters " + DEAD);
        }
    }

    private static void await(String what, BooleanSupplier condition) throws InterruptedException {
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (!condition.getAsBoolean()) {
            check(System.nanoTime() < deadline, what + " do not come: " + INVOICES.size() + " invoices, " + DEAD);
            Thread.sleep(20);
        }
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}

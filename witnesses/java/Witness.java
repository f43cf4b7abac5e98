// The witness with Kafka's own client for Java. It is run from this file: java -cp 'JARS/*' Witness.java …

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ApiException;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Witness {
    static final long TIME = 1483228800000L;
    static final int RECORDS = 20;
    static final String FILLING = " tide".repeat(40);
    static final Duration PATIENCE = Duration.ofSeconds(30);

    record Commit(int partition, long offset, String metadata) {}

    static final List<Commit> COMMITS = List.of(new Commit(0, 3, "three"), new Commit(1, 5, ""));

    public static void main(String[] arguments) throws Exception {
        String address = arguments[1], name = arguments[2];
        if (arguments[0].equals("first")) {
            first(address, name, Long.parseLong(arguments[3]));
        } else {
            second(address, name);
        }
    }

    static void first(String address, String name, long time) throws Exception {
        make(address, name);
        administer(address, name);
        write(address, name);
        try (var reader = consumer(address, name)) {
            read(reader, "ours");
            read(reader, name + "-wrote");
            look(reader, time);
            reader.assign(partitions(reader, "ours"));
            reader.commitSync(COMMITS.stream().collect(Collectors.toMap(
                commit -> new TopicPartition("ours", commit.partition),
                commit -> new OffsetAndMetadata(commit.offset, commit.metadata))));
            committed(reader);
        }
    }

    static void second(String address, String name) throws Exception {
        try (var reader = consumer(address, name)) {
            committed(reader);
            // Nothing is sought: a position is where the group was.
            var left = new ArrayList<>(COMMITS.stream().map(commit -> commit.partition).toList());
            reader.assign(left.stream().map(number -> new TopicPartition("ours", number)).toList());
            while (!left.isEmpty()) {
                for (var found : poll(reader)) {
                    if (left.remove((Integer) found.partition())) {
                        print(found);
                    }
                }
            }
        }
        try (var admin = Admin.create(settings(address))) {
            var all = admin.listConsumerGroupOffsets(name).partitionsToOffsetAndMetadata().get();
            tell("listed", "offsets", offsets(all));
        }
    }

    static Properties settings(String address) {
        var settings = new Properties();
        settings.put("bootstrap.servers", address);
        return settings;
    }

    static void make(String address, String name) throws Exception {
        try (var admin = Admin.create(settings(address))) {
            String made = name + "-made";
            admin.createTopics(List.of(new NewTopic(made, 3, (short) -1))).all().get();
            var names = admin.listTopics().names().get().stream().sorted().toList();
            var described = admin.describeTopics(List.of(made)).allTopicNames().get().get(made);
            tell("made", "names", names, "partitions", described.partitions().size());
        }
    }

    static void administer(String address, String name) throws Exception {
        String made = name + "-made", gone = name + "-gone";
        var first = new TopicPartition(made, 0);
        try (var admin = Admin.create(settings(address))) {
            describe(admin, made, "made");
            alter(admin, made, "retention.ms", "3600000", AlterConfigOp.OpType.SET).get();
            alter(admin, made, "max.message.bytes", "100000", AlterConfigOp.OpType.SET).get();
            alter(admin, made, "max.message.bytes", "", AlterConfigOp.OpType.DELETE).get();
            describe(admin, made, "altered");
            refused("setting", alter(admin, made, "cleanup.policy", "compact", AlterConfigOp.OpType.SET));
            refused("partitions", admin.createPartitions(Map.of(made, NewPartitions.increaseTo(5))).all());
            var serializer = new ByteArraySerializer();
            try (var producer = new KafkaProducer<>(settings(address), serializer, serializer)) {
                for (int n = 0; n < 5; n++) {
                    producer.send(new ProducerRecord<>(made, 0, null, bytes("" + n))).get();
                }
            }
            var deleted = admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(3)));
            long low = deleted.lowWatermarks().get(first).get().lowWatermark();
            try (var reader = consumer(address, name)) {
                tell("trimmed", "low", low, "earliest", reader.beginningOffsets(List.of(first)).get(first));
            }
            admin.createTopics(List.of(new NewTopic(gone, 2, (short) -1))).all().get();
            admin.deleteTopics(List.of(gone)).all().get();
            tell("deleted", "names", admin.listTopics().names().get().stream().sorted().toList());
        }
    }

    static void describe(Admin admin, String topic, String when) throws Exception {
        var of = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var settings = new ArrayList<List<Object>>();
        for (var one : admin.describeConfigs(List.of(of)).all().get().get(of).entries()) {
            settings.add(List.of(one.name(), one.value(), one.isDefault()));
        }
        tell("described", "when", when, "settings", settings);
    }

    static KafkaFuture<Void> alter(Admin admin, String topic, String name, String value, AlterConfigOp.OpType kind) {
        var of = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var change = new AlterConfigOp(new ConfigEntry(name, value), kind);
        return admin.incrementalAlterConfigs(Map.of(of, List.of(change))).all();
    }

    static void refused(String what, KafkaFuture<Void> asked) throws Exception {
        try {
            asked.get();
        } catch (ExecutionException refused) {
            var error = (ApiException) refused.getCause();
            tell("refused", "what", what, "code", (int) Errors.forException(error).code(), "why", error.getMessage());
        }
    }

    static void write(String address, String name) throws Exception {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            for (String kind : List.of("0", "1", "all", "idempotent")) {
                boolean idempotent = kind.equals("idempotent");
                var settings = settings(address);
                settings.put("compression.type", codec);
                settings.put("acks", idempotent ? "all" : kind);
                settings.put("enable.idempotence", idempotent);
                settings.put("linger.ms", 5);
                var serializer = new ByteArraySerializer();
                String of = codec + "/" + kind;
                try (var producer = new KafkaProducer<>(settings, serializer, serializer)) {
                    var sent = new ArrayList<Future<RecordMetadata>>();
                    for (int n = 0; n < RECORDS; n++) {
                        sent.add(producer.send(record(name, of, n)));
                    }
                    producer.flush();
                    var places = new ArrayList<List<Long>>();
                    for (var one : sent) {
                        var told = one.get();
                        if (told.hasOffset()) {
                            places.add(List.of((long) told.partition(), told.offset()));
                        }
                    }
                    tell("sent", "case", of, "codec", codec, "idempotent", idempotent, "places", places);
                }
            }
        }
    }

    static ProducerRecord<byte[], byte[]> record(String name, String of, int n) {
        int kind = n % 5;
        byte[] key = kind == 1 ? null : bytes(kind == 3 ? "" : "k" + n);
        byte[] value = kind == 2 ? null : bytes(kind == 3 ? "" : of + " " + n + FILLING);
        List<Header> headers = kind == 4 ? List.of() : List.of(
            new RecordHeader("by", bytes(name)),
            new RecordHeader("by", bytes("again")),
            new RecordHeader("case", bytes(of)),
            new RecordHeader("nothing", (byte[]) null));
        return new ProducerRecord<>(name + "-wrote", null, TIME + 1000L * n, key, value, headers);
    }

    static KafkaConsumer<byte[], byte[]> consumer(String address, String name) {
        var settings = settings(address);
        settings.put("group.id", name);
        settings.put("enable.auto.commit", false);
        settings.put("auto.offset.reset", "none");
        var deserializer = new ByteArrayDeserializer();
        return new KafkaConsumer<>(settings, deserializer, deserializer);
    }

    static List<TopicPartition> partitions(KafkaConsumer<byte[], byte[]> reader, String topic) {
        return reader.partitionsFor(topic).stream().map(one -> new TopicPartition(topic, one.partition())).toList();
    }

    static Iterable<ConsumerRecord<byte[], byte[]>> poll(KafkaConsumer<byte[], byte[]> reader) {
        var found = reader.poll(PATIENCE);
        if (found.isEmpty()) {
            throw new IllegalStateException("nothing more comes of " + reader.assignment());
        }
        return found;
    }

    static void read(KafkaConsumer<byte[], byte[]> reader, String topic) {
        var partitions = partitions(reader, topic);
        reader.assign(partitions);
        reader.seekToBeginning(partitions);
        var ends = reader.endOffsets(partitions);
        while (partitions.stream().anyMatch(one -> reader.position(one) < ends.get(one))) {
            poll(reader).forEach(Witness::print);
        }
    }

    static void print(ConsumerRecord<byte[], byte[]> found) {
        var headers = new ArrayList<List<Object>>();
        for (var header : found.headers()) {
            var pair = new ArrayList<Object>();
            pair.add(header.key());
            pair.add(text(header.value()));
            headers.add(pair);
        }
        tell("read", "topic", found.topic(), "partition", found.partition(), "offset", found.offset(),
            "timestamp", found.timestamp(), "key", text(found.key()), "value", text(found.value()),
            "headers", headers);
    }

    static void look(KafkaConsumer<byte[], byte[]> reader, long time) {
        var partitions = partitions(reader, "ours");
        Function<TopicPartition, Long> asked = one -> time;
        var at = reader.offsetsForTimes(partitions.stream().collect(Collectors.toMap(one -> one, asked)));
        var places = new ArrayList<List<Long>>();
        at.forEach((one, found) -> places.add(List.of((long) one.partition(), found == null ? -1 : found.offset())));
        tell("looked", "earliest", places(reader.beginningOffsets(partitions)),
            "latest", places(reader.endOffsets(partitions)), "at", places);
    }

    static List<List<Long>> places(Map<TopicPartition, Long> offsets) {
        return offsets.entrySet().stream().map(one -> List.of((long) one.getKey().partition(), one.getValue())).toList();
    }

    static void committed(KafkaConsumer<byte[], byte[]> reader) {
        tell("committed", "offsets", offsets(reader.committed(new java.util.HashSet<>(partitions(reader, "ours")))));
    }

    static List<List<Object>> offsets(Map<TopicPartition, OffsetAndMetadata> committed) {
        var sorted = new TreeMap<Integer, List<Object>>();
        committed.forEach((one, found) -> sorted.put(one.partition(), found == null
            ? List.of(one.partition(), -1, "")
            : List.of(one.partition(), found.offset(), found.metadata())));
        return List.copyOf(sorted.values());
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    /** A line of JSON: what was done, then names and values. */
    static void tell(String did, Object... said) {
        var line = new StringBuilder("{\"did\":").append(json(did));
        for (int at = 0; at < said.length; at += 2) {
            line.append(',').append(json(said[at])).append(':').append(json(said[at + 1]));
        }
        System.out.println(line.append('}'));
    }

    static String json(Object value) {
        if (value == null || value instanceof Number || value instanceof Boolean) {
            return String.valueOf(value);
        }
        if (value instanceof Collection<?> values) {
            return values.stream().map(Witness::json).collect(Collectors.joining(",", "[", "]"));
        }
        return '"' + value.toString().replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }
}

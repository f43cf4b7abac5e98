"""The witness with confluent-kafka, which is librdkafka."""

from confluent_kafka import Consumer, KafkaError, OFFSET_BEGINNING, Producer, TopicPartition
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewPartitions, NewTopic,
)

import story


def settings(address, **more):
    return {"bootstrap.servers": address, "broker.address.family": "v4", **more}


def make(address, name):
    admin = AdminClient(settings(address))
    made = f"{name}-made"
    admin.create_topics([NewTopic(made, num_partitions=3)])[made].result(30)
    topics = admin.list_topics(timeout=30).topics
    story.tell("made", names=sorted(topics), partitions=len(topics[made].partitions))


def describe(admin, topic, when):
    of = ConfigResource(ConfigResource.Type.TOPIC, topic)
    found = admin.describe_configs([of])[of].result(30).values()
    default = ConfigSource.DEFAULT_CONFIG.value
    story.tell("described", when=when, settings=[[one.name, one.value, one.source == default] for one in found])


def alter(admin, topic, name, value, kind=AlterConfigOpType.SET):
    entry = ConfigEntry(name, value, incremental_operation=kind)
    of = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([of])[of].result(30)


def refused(what, ask):
    try:
        ask()
    except KafkaException as error:
        story.tell("refused", what=what, code=error.args[0].code(), why=error.args[0].str())


def administer(address, name):
    admin = AdminClient(settings(address))
    made, gone = f"{name}-made", f"{name}-gone"
    describe(admin, made, "made")
    for setting, value in story.SET.items():
        alter(admin, made, setting, value)
    alter(admin, made, story.UNSET, None, AlterConfigOpType.DELETE)
    describe(admin, made, "altered")
    refused("setting", lambda: alter(admin, made, *story.REFUSED))
    refused("partitions", lambda: admin.create_partitions([NewPartitions(made, 5)])[made].result(30))
    producer = Producer(settings(address))
    for n in range(story.MADE_RECORDS):
        producer.produce(made, f"{n}", partition=0)
    producer.flush(30)
    before = TopicPartition(made, 0, story.STAYS)
    low = admin.delete_records([before])[before].result(30).low_watermark
    reader = consumer(address, name)
    earliest, _ = reader.get_watermark_offsets(TopicPartition(made, 0), 30)
    reader.close()
    story.tell("trimmed", low=low, earliest=earliest)
    admin.create_topics([NewTopic(gone, num_partitions=2)])[gone].result(30)
    admin.delete_topics([gone])[gone].result(30)
    story.tell("deleted", names=sorted(admin.list_topics(timeout=30).topics))


def write(address, name):
    for case, codec, acks, idempotent in story.cases():
        producer = Producer(settings(address, **{
            "compression.codec": codec,
            "acks": acks,
            "enable.idempotence": idempotent,
            "linger.ms": 5,
            "partitioner": "murmur2_random",
        }))
        places, failed = [], []

        def delivered(error, message):
            if error is not None:
                failed.append(str(error))
            elif acks != "0":
                places.append([message.partition(), message.offset()])

        for n in range(story.RECORDS):
            key, value, headers, time = story.record(name, case, n)
            producer.produce(f"{name}-wrote", value, key, headers=headers, timestamp=time, on_delivery=delivered)
        left = producer.flush(30)
        if left or failed:
            raise SystemExit(f"{case}: {left} records left, {failed}")
        story.tell("sent", case=case, codec=codec, idempotent=idempotent, places=places)


def consumer(address, name):
    return Consumer(settings(address, **{
        "group.id": name,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
    }))


def print_record(message):
    story.tell(
        "read",
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        timestamp=message.timestamp()[1],
        key=story.text(message.key()),
        value=story.text(message.value()),
        headers=story.headers(message.headers()),
    )


def read(reader, topic, partitions):
    reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    left = set(partitions)
    while left:
        message = reader.poll(30)
        if message is None:
            raise SystemExit(f"nothing more comes of {topic} {left}")
        if message.error() is None:
            print_record(message)
        elif message.error().code() == KafkaError._PARTITION_EOF:
            left.discard(message.partition())
        else:
            raise SystemExit(str(message.error()))
    reader.unassign()


def look(reader, partitions, time):
    marks = {p: reader.get_watermark_offsets(TopicPartition("ours", p), 30) for p in partitions}
    at = reader.offsets_for_times([TopicPartition("ours", p, time) for p in partitions], 30)
    story.tell(
        "looked",
        earliest=[[p, low] for p, (low, _) in marks.items()],
        latest=[[p, high] for p, (_, high) in marks.items()],
        at=[[found.partition, found.offset] for found in at],
    )


def committed(reader, partitions):
    found = reader.committed([TopicPartition("ours", p) for p in partitions], 30)
    story.tell("committed", offsets=[[p.partition, max(p.offset, -1), p.metadata or ""] for p in found])


def first(address, name, time):
    make(address, name)
    administer(address, name)
    write(address, name)
    reader = consumer(address, name)
    topics = reader.list_topics(timeout=30).topics
    partitions = sorted(topics["ours"].partitions)
    read(reader, "ours", partitions)
    read(reader, f"{name}-wrote", sorted(topics[f"{name}-wrote"].partitions))
    look(reader, partitions, time)
    commits = [TopicPartition("ours", p, offset, metadata) for p, offset, metadata in story.COMMITS]
    reader.commit(offsets=commits, asynchronous=False)
    committed(reader, partitions)
    reader.close()


def second(address, name):
    reader = consumer(address, name)
    committed(reader, [0, 1, 2])
    # The group's own offset, where there is one: that is what a consumer that comes back is given.
    reader.assign([TopicPartition("ours", p) for p, _, _ in story.COMMITS])
    left = {p for p, _, _ in story.COMMITS}
    while left:
        message = reader.poll(30)
        if message is None:
            raise SystemExit(f"nothing comes of {left}")
        if message.error() is None and message.partition() in left:
            print_record(message)
            left.discard(message.partition())
    reader.close()
    # And as those see it who administer.
    admin = AdminClient(settings(address))
    all_of = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name].result(30)
    offsets = sorted([p.partition, p.offset, p.metadata or ""] for p in all_of.topic_partitions)
    story.tell("listed", offsets=offsets)


story.main(first, second)

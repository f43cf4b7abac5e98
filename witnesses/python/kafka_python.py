"""The witness with kafka-python."""

import re

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

import story


def make(address, name):
    admin = KafkaAdminClient(bootstrap_servers=address)
    made = f"{name}-made"
    admin.create_topics([NewTopic(name=made, num_partitions=3, replication_factor=-1)])
    described = admin.describe_topics([made])
    story.tell("made", names=sorted(admin.list_topics()), partitions=len(described[0]["partitions"]))
    admin.close()


def describe(admin, topic, when):
    of = ConfigResource(ConfigResourceType.TOPIC, topic)
    found = admin.describe_configs([of], config_filter="all")["topic"][topic]
    settings = [[one, shown["value"], shown["config_source"] == "DEFAULT_CONFIG"] for one, shown in found.items()]
    story.tell("described", when=when, settings=settings)


def alter(admin, topic, changes):
    """What came of it, in words: this client raises nothing here."""
    return admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, changes)])["topic"][topic]


def refused(what, why):
    code = re.match(r"\[Error (\d+)\]", why)
    story.tell("refused", what=what, code=int(code[1]) if code else None, why=why)


def words_of(ask):
    try:
        return str(ask())
    except KafkaError as error:
        return str(error)


def administer(address, name):
    admin = KafkaAdminClient(bootstrap_servers=address)
    made, gone = f"{name}-made", f"{name}-gone"
    describe(admin, made, "made")
    alter(admin, made, dict(story.SET))
    alter(admin, made, {story.UNSET: (AlterConfigOp.DELETE, None)})
    describe(admin, made, "altered")
    setting, value = story.REFUSED
    refused("setting", alter(admin, made, {setting: value}))
    refused("partitions", words_of(lambda: admin.create_partitions({made: 5})))
    producer = KafkaProducer(bootstrap_servers=address)
    for n in range(story.MADE_RECORDS):
        producer.send(made, f"{n}".encode(), partition=0)
    producer.close()
    first = TopicPartition(made, 0)
    low = admin.delete_records({first: story.STAYS})[first]["low_watermark"]
    reader = consumer(address, name)
    story.tell("trimmed", low=low, earliest=reader.beginning_offsets([first])[first])
    reader.close(autocommit=False)
    admin.create_topics([NewTopic(name=gone, num_partitions=2, replication_factor=-1)])
    admin.delete_topics([gone])
    story.tell("deleted", names=sorted(admin.list_topics()))
    admin.close()


def write(address, name):
    for case, codec, acks, idempotent in story.cases():
        producer = KafkaProducer(
            bootstrap_servers=address,
            compression_type=None if codec == "none" else codec,
            acks=acks if acks == "all" else int(acks),
            enable_idempotence=idempotent,
            linger_ms=5,
        )
        sent = []
        for n in range(story.RECORDS):
            key, value, headers, time = story.record(name, case, n, null_headers=False)
            sent.append(producer.send(f"{name}-wrote", value, key, headers=headers, timestamp_ms=time))
        producer.flush(30)
        done = [future.get(30) for future in sent]
        places = [[told.partition, told.offset] for told in done] if acks != "0" else []
        producer.close()
        # It refuses to write a header that is null, and reads it.
        more = {"null-headers": False}
        story.tell("sent", case=case, codec=codec, idempotent=idempotent, places=places, **more)


def consumer(address, name):
    return KafkaConsumer(
        bootstrap_servers=address, group_id=name, enable_auto_commit=False, auto_offset_reset="none"
    )


def print_record(found):
    story.tell(
        "read",
        topic=found.topic,
        partition=found.partition,
        offset=found.offset,
        timestamp=found.timestamp,
        key=story.text(found.key),
        value=story.text(found.value),
        headers=story.headers(found.headers),
    )


def partitions_of(reader, topic):
    return [TopicPartition(topic, p) for p in sorted(reader.partitions_for_topic(topic))]


def read(reader, topic):
    partitions = partitions_of(reader, topic)
    reader.assign(partitions)
    reader.seek_to_beginning(*partitions)
    ends = reader.end_offsets(partitions)
    while any(reader.position(p) < ends[p] for p in partitions):
        batches = reader.poll(30_000)
        if not batches:
            raise SystemExit(f"nothing more comes of {topic}")
        for found in (record for batch in batches.values() for record in batch):
            print_record(found)


def look(reader, time):
    partitions = partitions_of(reader, "ours")
    at = reader.offsets_for_times({p: time for p in partitions})
    story.tell(
        "looked",
        earliest=[[p.partition, o] for p, o in reader.beginning_offsets(partitions).items()],
        latest=[[p.partition, o] for p, o in reader.end_offsets(partitions).items()],
        at=[[p.partition, found.offset if found else -1] for p, found in at.items()],
    )


def committed(reader):
    offsets = []
    for p in partitions_of(reader, "ours"):
        found = reader.committed(p, metadata=True)
        offsets.append([p.partition, found.offset, found.metadata or ""] if found else [p.partition, -1, ""])
    story.tell("committed", offsets=offsets)


def first(address, name, time):
    make(address, name)
    administer(address, name)
    write(address, name)
    reader = consumer(address, name)
    read(reader, "ours")
    read(reader, f"{name}-wrote")
    look(reader, time)
    reader.assign(partitions_of(reader, "ours"))
    reader.commit({
        TopicPartition("ours", p): OffsetAndMetadata(offset, metadata, -1)
        for p, offset, metadata in story.COMMITS
    })
    committed(reader)
    reader.close(autocommit=False)


def second(address, name):
    reader = consumer(address, name)
    committed(reader)
    # Their positions are where the group was: nothing is sought.
    reader.assign([TopicPartition("ours", p) for p, _, _ in story.COMMITS])
    left = {p for p, _, _ in story.COMMITS}
    while left:
        for batch in reader.poll(30_000).values():
            if batch[0].partition in left:
                print_record(batch[0])
                left.discard(batch[0].partition)
    reader.close(autocommit=False)
    admin = KafkaAdminClient(bootstrap_servers=address)
    found = admin.list_group_offsets(name)[name]
    offsets = sorted([p.partition, told.offset, told.metadata or ""] for p, told in found.items())
    story.tell("listed", offsets=offsets)
    admin.close()


story.main(first, second)

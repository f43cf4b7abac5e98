"""Sends the notifications of the order chain: a consumer outside the broker, with a client of Kafka.

    python send_mail.py 127.0.0.1:9092 http://127.0.0.1:8025/mail [--exit-at-end]

Inside the broker each notification was derived exactly once. What happens outside cannot be part of that: whoever
crashes between sending a mail and saying so has to send it again. So this program

1. sends first and commits its offsets after that: no notification is ever lost, and some are sent twice;
2. gives every mail an idempotency key, by which the mail server knows a mail that it has sent already.

The key is the record's position: topic id, partition, offset. It is the same whoever reads the record, and whenever;
and a topic that is deleted and made again under its name has another id, so its records have other keys.
"""

import json
import sys
import urllib.request

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

TOPIC = "customer-notifications"
GROUP = "mailer"
# So many mails are sent again at most after a crash: offsets are committed once for all of them.
BATCH = 50


def send(server, key, notification):
    """Hands a mail over. It counts as sent when the server says so, and as often as needed until then."""
    mail = {
        "to": f"customer-{notification['customerId']}@example.com",
        "subject": notification["subject"],
    }
    request = urllib.request.Request(
        server,
        data=json.dumps(mail).encode(),
        headers={"Content-Type": "application/json", "Idempotency-Key": key},
    )
    # An answer other than 2xx ends the program. Nothing is committed then, and its next start goes on from here.
    with urllib.request.urlopen(request, timeout=30):
        pass


def main(broker, server, exit_at_end):
    settings = {"bootstrap.servers": broker, "broker.address.family": "v4"}
    admin = AdminClient(settings)
    described = admin.describe_topics(TopicCollection([TOPIC]))[TOPIC].result(30)
    # As Kafka writes ids: base 64 without the slash, which stands between the parts of the key here.
    topic_id = str(described.topic_id).replace("/", "_").replace("+", "-")
    consumer = Consumer({
        **settings,
        "group.id": GROUP,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
    })
    # Assigned, not subscribed: each partition goes on from what the group committed last.
    unread = {partition.id for partition in described.partitions}
    consumer.assign([TopicPartition(TOPIC, partition) for partition in unread])

    while unread or not exit_at_end:
        positions = {}
        for message in consumer.consume(BATCH, timeout=1):
            if message.error() is not None:
                if message.error().code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(message.error())
                unread.discard(message.partition())
                continue
            key = f"{topic_id}/{message.partition()}/{message.offset()}"
            send(server, key, json.loads(message.value()))
            positions[message.partition()] = message.offset() + 1
        if positions:
            offsets = [TopicPartition(TOPIC, partition, offset) for partition, offset in positions.items()]
            consumer.commit(offsets=offsets, asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "--exit-at-end" in sys.argv[3:])

# SPDX-License-Identifier: Apache-2.0
"""Where the logs of partitions end. The distribution's client (librdkafka 2.0) never returns from
get_watermark_offsets() when the leader dies before it answers. The same question, put as the offset of the time that
stands for the end, has a deadline there; but the client goes on asking the dead leader, so each attempt has a new one."""
import time

import confluent_kafka
import confluent_kafka.admin

AGAIN = 0.1
ONE_ATTEMPT = 3.0


def partitions(bootstrap, topics):
    """[(topic, partition)] of these topics, as the brokers have them now."""
    known = confluent_kafka.admin.AdminClient({"bootstrap.servers": bootstrap, "log_level": 4}).list_topics(timeout=20).topics
    return [(topic, number) for topic in topics for number in known[topic].partitions]


def ends(bootstrap, places, seconds=30):
    """[(topic, partition)] -> {(topic, partition): offset behind the last committed message}. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return _attempt(bootstrap, places)
        except confluent_kafka.KafkaException as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"Kafka did not say within {seconds} s where {places[0][0]} ends: {error}") from error
        time.sleep(AGAIN)


def _attempt(bootstrap, places):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "ends", "isolation.level": "read_committed"})
    try:
        asked = [confluent_kafka.TopicPartition(topic, partition, confluent_kafka.OFFSET_END) for topic, partition in places]
        found = consumer.offsets_for_times(asked, ONE_ATTEMPT)
    finally:
        consumer.close()
    for each in found:
        if each.error is not None:
            raise confluent_kafka.KafkaException(each.error)
    return {(each.topic, each.partition): each.offset for each in found}

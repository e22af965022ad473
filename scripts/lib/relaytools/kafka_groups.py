# SPDX-License-Identifier: Apache-2.0
"""What an operator, or another client, may do to a consumer group behind the relay's back. The distribution's Python
client has no calls for it, so a commit is made by a consumer of the same group and the deletion is one frame."""
import socket
import struct
import time

import confluent_kafka

DELETE_GROUPS = 42
NOT_COORDINATOR = (14, 15, 16)  # loading, not available, another node


def committed_offsets(bootstrap, group, partitions, seconds=20):
    """[(topic, partition)] -> {(topic, partition): offset} of those that have one."""
    consumer = _consumer(bootstrap, group)
    try:
        asked = [confluent_kafka.TopicPartition(topic, partition) for topic, partition in partitions]
        return {(found.topic, found.partition): found.offset for found in consumer.committed(asked, timeout=seconds) if found.offset >= 0}
    finally:
        consumer.close()


def commit_from_outside(bootstrap, group, offsets):
    """Sets offsets ({(topic, partition): offset}) of a group that has no members; raises while it has some."""
    consumer = _consumer(bootstrap, group)
    try:
        _commit(consumer, offsets)
    finally:
        consumer.close()


class Stranger:
    """A live member of the relay's group that owns nothing of it: it subscribes to a topic of its own."""

    def __init__(self, bootstrap, group, topic, seconds=30):
        self._consumer = _consumer(bootstrap, group)
        joined = []
        self._consumer.subscribe([topic], on_assign=lambda _, partitions: joined.append(partitions))
        deadline = time.monotonic() + seconds
        while not joined:
            if time.monotonic() > deadline:
                self._consumer.close()
                raise TimeoutError(f"did not join the group {group} within {seconds} s")
            self._consumer.poll(0.1)

    def commit(self, offsets):
        """Returns how many of them the coordinator took."""
        return _commit(self._consumer, offsets)

    def leave(self):
        self._consumer.close()


def _consumer(bootstrap, group):
    return confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False,
        "session.timeout.ms": 6000, "partition.assignment.strategy": "cooperative-sticky", "auto.offset.reset": "earliest"})


def _commit(consumer, offsets):
    wanted = [confluent_kafka.TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
    done = consumer.commit(offsets=wanted, asynchronous=False)
    return sum(1 for each in done if each.error is None)


def delete_group(bootstrap, group, seconds=20):
    """Deletes a group that has no members, its offsets included. Returns False when there was none."""
    deadline = time.monotonic() + seconds
    code = None
    while time.monotonic() < deadline:
        for address in bootstrap.split(","):
            code = _delete_group_at(address, group)
            if code == 0:
                return True
            if code == 69:  # GROUP_ID_NOT_FOUND
                return False
            if code not in NOT_COORDINATOR:
                raise RuntimeError(f"deleting the group {group}: Kafka's error {code}")
        time.sleep(0.1)
    raise TimeoutError(f"deleting the group {group}: no coordinator within {seconds} s (last error {code})")


def _delete_group_at(address, group):
    name = group.encode()
    answer = ask(address, DELETE_GROUPS, 0, struct.pack(">ih", 1, len(name)) + name)
    # correlation id, throttle time, number of groups, its name, its error
    length = struct.unpack(">h", answer[12:14])[0]
    return struct.unpack(">h", answer[14 + length:16 + length])[0]


def ask(address, api, version, body):
    """One request with the old form of a header, answered by its whole answer from the correlation id on."""
    frame = struct.pack(">hhih", api, version, 1, 5) + b"bench" + body
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.settimeout(20)
        connection.sendall(struct.pack(">i", len(frame)) + frame)
        return _exactly(connection, struct.unpack(">i", _exactly(connection, 4))[0])


def _exactly(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ConnectionError("Kafka hung up")
        data += piece
    return data

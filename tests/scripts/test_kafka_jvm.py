# SPDX-License-Identifier: Apache-2.0
"""The archive of Kafka's classes: made once, whole or not at all, and nobody waits for another to make it."""
import os

import pytest

from servers import kafka_jvm


@pytest.fixture
def jars(tmp_path):
    (tmp_path / "libs").mkdir()
    return str(tmp_path / "libs")


def writes(folder, archive):
    assert os.path.isdir(folder)
    with open(archive, "w", encoding="ascii") as file:
        file.write("classes")


def fails(folder, archive):
    writes(folder, archive)
    raise RuntimeError("the node did not come up")


def is_not_called(folder, archive):
    raise AssertionError(f"{archive} is made again in {folder}")


def beside(jars):
    return sorted(os.listdir(os.path.dirname(jars)))


def test_it_is_made_once_and_used_by_short_lived_clusters_alone(jars):
    option = "-XX:SharedArchiveFile=" + kafka_jvm.archive(jars)
    assert option not in kafka_jvm.command(jars, 1, True, "kafka.Kafka")
    kafka_jvm.make_archive(jars, writes)
    kafka_jvm.make_archive(jars, is_not_called)
    assert beside(jars) == sorted(["libs", os.path.basename(kafka_jvm.archive(jars))])
    assert option in kafka_jvm.command(jars, 1, True, "kafka.Kafka")
    assert option not in kafka_jvm.command(jars, 1, False, "kafka.Kafka")


def test_a_node_that_fails_leaves_nothing(jars):
    with pytest.raises(RuntimeError):
        kafka_jvm.make_archive(jars, fails)
    assert beside(jars) == ["libs"]


def test_one_that_is_just_being_made_is_not_waited_for_and_one_that_was_abandoned_is_made(jars):
    making = kafka_jvm.archive(jars) + ".making"
    os.mkdir(making)
    kafka_jvm.make_archive(jars, is_not_called)
    assert os.path.isdir(making)
    os.utime(making, (1, 1))
    kafka_jvm.make_archive(jars, writes)
    assert os.path.exists(kafka_jvm.archive(jars)) and not os.path.exists(making)

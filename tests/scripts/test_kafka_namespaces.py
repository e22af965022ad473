# SPDX-License-Identifier: Apache-2.0
"""Kafka's nodes in network namespaces: one that is cut off from the others is reached from here as before, leaves the cluster, and comes
back; and nothing of the network outlives the servers."""
import subprocess
import sys

import confluent_kafka
import confluent_kafka.admin
import pytest

from relaytools.relay import wait_until
from relaytools.servers import temporary_servers
from servers.namespaces import Network, free_network
from servers.process import ServerError


pytestmark = pytest.mark.xdist_group("three Kafka nodes")

# Nobody listens there: who is refused has reached it.
REACH = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), 10)
except ConnectionRefusedError:
    pass
"""


def reaches(address, inside=()):
    return subprocess.run([*inside, sys.executable, "-c", REACH, address], capture_output=True, check=False).returncode == 0


@pytest.fixture
def possible():
    """Root in a container may not be allowed to make such a network, and a firewall may drop what crosses its bridge."""
    try:
        network = Network(free_network(), 2)
    except ServerError as error:
        pytest.skip(str(error))
    try:
        network.make()
        if not reaches(network.address(1)) or not reaches(network.address(2), network.inside(1)):
            pytest.skip("what crosses a bridge of this machine does not arrive")
    except ServerError as error:
        pytest.skip(f"no network can be made: {error}")
    finally:
        network.remove()


def in_sync(servers, topic):
    """How many replicas of the topic's partitions are in sync, by partition, as the cluster's majority knows it."""
    partitions = confluent_kafka.admin.AdminClient({"bootstrap.servers": servers.bootstrap, "log_level": 0}).list_topics(topic, timeout=20)
    return {len(partition.isrs) for partition in partitions.topics[topic].partitions.values()}


def names():
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
    return links + subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("possible")
def test_a_node_that_is_cut_off_from_the_others_is_still_reached():
    with temporary_servers("kafka", kafka_nodes=3, kafka_namespaces=True) as servers:
        network = Network(int(servers.env["KAFKA_NETWORK"]), 3)
        servers.create_topics(["t"], 3)
        wait_until(lambda: in_sync(servers, "t") == {3}, "all replicas in sync")
        alone, *others = servers.bootstrap.split(",")
        network.cut(1, 2)
        network.cut(1, 3)
        # The others go on without it; it answers, and knows nothing of that.
        servers.env["KAFKA_BOOTSTRAP"] = ",".join(others)
        wait_until(lambda: in_sync(servers, "t") == {2}, "two replicas in sync", 120)
        assert confluent_kafka.admin.AdminClient({"bootstrap.servers": alone, "log_level": 0}).list_topics(timeout=20).orig_broker_id == 1
        network.mend()
        wait_until(lambda: in_sync(servers, "t") == {3}, "all replicas in sync again", 120)
        assert network.bridge in names()
    assert network.bridge not in names()

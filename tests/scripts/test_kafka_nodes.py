# SPDX-License-Identifier: Apache-2.0
"""The tools on a Kafka of three nodes: clients stay behind the proxies of its second listener, and where logs end is told
while nodes die. One cluster for all; the test that kills a node is the last."""
import confluent_kafka
import pytest
from relaytools import audit, kafka_ends, proxy
from relaytools.servers import temporary_servers

pytestmark = pytest.mark.xdist_group("three Kafka nodes")


@pytest.fixture(scope="module")
def nodes():
    made = [proxy.Proxy(kind="kafka") for _ in range(3)]
    yield made
    for node in made:
        node.close()


@pytest.fixture(scope="module")
def servers(nodes):
    with temporary_servers("kafka", kafka_nodes=3, kafka_proxy_ports=[node.port for node in nodes]) as servers:
        for node, target in zip(nodes, servers.env["KAFKA_PROXIED_TARGETS"].split(",")):
            node.target = tuple(target.split(":"))
        yield servers


def test_kafka_clients_stay_behind_the_proxies_of_its_second_listener(servers, nodes):
    servers.create_topics(["t"], 6)
    moved = [node.moved[proxy.TO_SERVER] for node in nodes]
    assert moved == [0, 0, 0], "a direct client came through a proxy"
    producer = confluent_kafka.Producer({"bootstrap.servers": servers.env["KAFKA_PROXIED_BOOTSTRAP"], "client.id": "tools"})
    for partition in range(6):
        producer.produce("t", b"value", partition=partition)
    assert producer.flush(30) == 0
    # The leaders are spread over the nodes, and each is reached through its own proxy.
    assert all(node.moved[proxy.TO_SERVER] > 0 for node in nodes)
    assert sum(node.cut(client="tools") for node in nodes) >= 3
    producer.produce("t", b"value")
    assert producer.flush(30) == 0
    assert len(list(audit.read_topics(servers.bootstrap, "t"))) == 7


def test_the_end_is_told_by_the_leader_that_follows_one_that_died(servers):
    servers.create_topics(["ends"], 6)
    partitions = [("ends", number) for number in range(6)]
    before = kafka_ends.ends(servers.bootstrap, partitions)
    assert before == dict.fromkeys(partitions, 0)
    # Each node leads some partitions; the others still name it as their leader when they are asked.
    servers.kill("kafka-2")
    assert kafka_ends.ends(servers.bootstrap, partitions, 60) == before
    with pytest.raises(TimeoutError, match="where nothing ends"):
        kafka_ends.ends(servers.bootstrap, [("nothing", 0)], 1)

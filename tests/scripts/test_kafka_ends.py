# SPDX-License-Identifier: Apache-2.0
"""The tools ask Kafka where logs end while its nodes die: the answer comes from the next leader."""
import pytest
from relaytools import kafka_ends
from relaytools.servers import temporary_servers


def test_the_end_is_told_by_the_leader_that_follows_one_that_died():
    with temporary_servers("kafka", kafka_nodes=3) as servers:
        servers.create_topics(["t"], 6)
        partitions = [("t", number) for number in range(6)]
        before = kafka_ends.ends(servers.bootstrap, partitions)
        assert before == dict.fromkeys(partitions, 0)
        # Each node leads some partitions; the others still name it as their leader when they are asked.
        servers.kill("kafka-2")
        assert kafka_ends.ends(servers.bootstrap, partitions, 60) == before
        with pytest.raises(TimeoutError, match="where nothing ends"):
            kafka_ends.ends(servers.bootstrap, [("nothing", 0)], 1)

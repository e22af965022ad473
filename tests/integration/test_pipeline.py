# SPDX-License-Identifier: Apache-2.0
"""The whole way once: a row written by an ordinary transaction reaches Kafka and ClickHouse."""
import json

import pytest


@pytest.mark.tsan
def test_one_row_reaches_kafka_and_clickhouse(place):
    relay = place.relay()
    aggregate = "6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d10"
    event_id = place.insert_event("post.created", '{"title": "hello \\u00e9"}', aggregate, metadata='{"correlation_id": "c-1"}')
    place.wait_published()
    place.wait_inserted(1)

    (found, topic, _, _, value, headers, key), = place.records()
    assert found == event_id
    assert key == aggregate.encode() == headers["aggregate_id"]
    assert topic == f"{place.prefix}.post.events"
    assert json.loads(value) == {"title": "hello é"}
    assert headers["event_type"] == b"post.created"
    assert headers["aggregate_type"] == b"post"
    assert headers["correlation_id"] == b"c-1"
    assert headers["created_at"].endswith(b"Z")
    assert int(headers["seq"]) >= 1

    row = place.clickhouse("SELECT event_id, event_type, payload FROM {db}.outbox_events FORMAT TSVRaw").strip().split("\t")
    assert row[:2] == [event_id, "post.created"]
    assert json.loads(row[2]) == {"title": "hello é"}
    assert relay.stop() == 0


@pytest.mark.postgres_versions
@pytest.mark.tsan
def test_twenty_thousand_rows_of_eight_writers_arrive_once_and_in_order(place):
    relay = place.relay()
    workload = place.workload(writers=8, events=20000).start()
    workload.join(120)
    place.wait_published()
    place.wait_inserted(20000, 120)
    result = place.audit(receipt_topic=f"{place.name}-receipts", may_lose=False)
    assert result.committed == 20000
    assert result.ok(), result.text()
    relay.wait(lambda: relay.metric("events_published_total") >= 20000, "the last COMMIT's answer")
    assert relay.stop() == 0

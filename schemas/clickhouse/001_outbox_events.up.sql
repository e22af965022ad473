-- SPDX-License-Identifier: Apache-2.0
-- Every event of the default route, in the order in which it is read: by type and time.
-- kafka_topic, kafka_partition and kafka_offset are what exactly_once asks the table for after a crash; the
-- index on the offset makes that question cheap. The window lets the server drop a repeated block itself;
-- without it (0 is ClickHouse's default) an insert token is ignored in silence.
-- Replicated: ENGINE = ReplicatedMergeTree, replicated_deduplication_window = 100000 and
-- replicated_deduplication_window_seconds = 604800 instead of the last setting (docs/schema.md).

CREATE TABLE IF NOT EXISTS outbox_events
(
    event_id        UUID,
    event_type      LowCardinality(String),
    aggregate_type  LowCardinality(String),
    aggregate_id    String CODEC(ZSTD(1)),
    payload         String CODEC(ZSTD(1)),
    created_at      DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    seq             UInt64 CODEC(Delta(8), ZSTD(1)),
    kafka_topic     LowCardinality(String),
    kafka_partition Int32,
    kafka_offset    Int64 CODEC(Delta(8), ZSTD(1)),
    inserted_at     DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(created_at)
ORDER BY (event_type, created_at, event_id)
SETTINGS non_replicated_deduplication_window = 100000;

-- SPDX-License-Identifier: Apache-2.0
-- Messages that could not become rows, as the bytes they were, with the reason: written by the same protocol
-- as the rows, so once each. target is the table the message was meant for.

CREATE TABLE IF NOT EXISTS outbox_relay_dead_letters
(
    target          LowCardinality(String),
    kafka_topic     LowCardinality(String),
    kafka_partition Int32,
    kafka_offset    Int64 CODEC(Delta(8), ZSTD(1)),
    key             Nullable(String) CODEC(ZSTD(1)),
    value           Nullable(String) CODEC(ZSTD(1)),
    headers         Array(Tuple(String, Nullable(String))) CODEC(ZSTD(1)),
    reason          LowCardinality(String),
    code            LowCardinality(String),
    text            String CODEC(ZSTD(1)),
    at              DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
ORDER BY (target, kafka_topic, kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 100000;

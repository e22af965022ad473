-- SPDX-License-Identifier: Apache-2.0
-- A sample of typed routes for a social network: a landing table for posts, likes and follows each, filled exactly once since it
-- carries the Kafka offset, and figures computed from them by materialized views. Engines that merge rows away
-- (Summing, Replacing) stand behind the views, never before them: they forget which offsets they have seen.
-- Every target of a view has a deduplication window too, or a repeated insert would count twice there.
--
-- Run it once, in a database of its own: clickhouse-client --database nova --queries-file 001_landing_tables.up.sql. It stops at
-- the first table that is there already: take back with the .down.sql only what this file has made.

CREATE TABLE landing_posts
(
    event_id        UUID,
    post_id         UUID,
    user_id         UUID,
    operation       Enum8('insert' = 1, 'update' = 2, 'delete' = 3),
    content         Nullable(String) CODEC(ZSTD(1)),
    tags            Array(LowCardinality(String)),
    created_at      DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    kafka_topic     LowCardinality(String),
    kafka_partition Int32,
    kafka_offset    Int64 CODEC(Delta(8), ZSTD(1)),
    INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(created_at)
ORDER BY (user_id, created_at, post_id)
TTL toDateTime(created_at) + INTERVAL 365 DAY
SETTINGS non_replicated_deduplication_window = 100000;

-- change is +1 for a like and -1 for its withdrawal: the sum is the present number of likes.
CREATE TABLE landing_likes
(
    event_id        UUID,
    post_id         UUID,
    user_id         UUID,
    change          Int8,
    created_at      DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    kafka_topic     LowCardinality(String),
    kafka_partition Int32,
    kafka_offset    Int64 CODEC(Delta(8), ZSTD(1)),
    INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(created_at)
ORDER BY (post_id, created_at)
SETTINGS non_replicated_deduplication_window = 100000;

CREATE TABLE landing_follows
(
    event_id        UUID,
    follower_id     UUID,
    followed_id     UUID,
    change          Int8,
    created_at      DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    kafka_topic     LowCardinality(String),
    kafka_partition Int32,
    kafka_offset    Int64 CODEC(Delta(8), ZSTD(1)),
    INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(created_at)
ORDER BY (followed_id, created_at)
SETTINGS non_replicated_deduplication_window = 100000;

CREATE TABLE landing_likes_hourly (post_id UUID, hour DateTime('UTC'), likes Int64)
ENGINE = SummingMergeTree(likes)
PARTITION BY toYYYYMM(hour)
ORDER BY (post_id, hour)
SETTINGS non_replicated_deduplication_window = 100000;

CREATE MATERIALIZED VIEW landing_likes_hourly_mv TO landing_likes_hourly AS
SELECT post_id, toStartOfHour(toDateTime(created_at, 'UTC')) AS hour, sum(change) AS likes
FROM landing_likes GROUP BY post_id, hour;

CREATE TABLE landing_followers_daily (user_id UUID, day Date, followers Int64)
ENGINE = SummingMergeTree(followers)
PARTITION BY toYYYYMM(day)
ORDER BY (user_id, day)
SETTINGS non_replicated_deduplication_window = 100000;

CREATE MATERIALIZED VIEW landing_followers_daily_mv TO landing_followers_daily AS
SELECT followed_id AS user_id, toDate(toDateTime(created_at, 'UTC')) AS day, sum(change) AS followers
FROM landing_follows GROUP BY user_id, day;

# SPDX-License-Identifier: Apache-2.0
"""A materialized view on a place's outbox_events whose table would show what it lacks and what it has twice. It can be told
to fail: ClickHouse then refuses INSERTs whose rows the table has already."""
from .relay import wait_until


class View:
    TABLE = "followed"

    def __init__(self, place):
        self.place = place
        # Several partitions: the block is stored in as many pieces, each with its own place in the window.
        place.clickhouse(f"CREATE TABLE {{db}}.{self.TABLE} (kafka_topic String, kafka_partition Int32, kafka_offset Int64, part UInt8) "
            "ENGINE = MergeTree PARTITION BY part ORDER BY (kafka_topic, kafka_partition, kafka_offset) "
            "SETTINGS non_replicated_deduplication_window = 100000")
        place.clickhouse("CREATE TABLE {db}.switch (x UInt8) ENGINE = TinyLog")
        self.repair()
        place.clickhouse(f"CREATE MATERIALIZED VIEW {{db}}.{self.TABLE}_view TO {{db}}.{self.TABLE} AS "
            "SELECT kafka_topic, kafka_partition, kafka_offset, "
            "toUInt8(kafka_offset % 3 + throwIf(kafka_offset >= 0 AND (SELECT count() FROM {db}.switch) = 0, 'the view fails')) AS part "
            "FROM {db}.outbox_events")
        place.views.append(self.TABLE)

    def fail(self):
        self.place.clickhouse("TRUNCATE TABLE {db}.switch")

    def repair(self):
        self.place.clickhouse("INSERT INTO {db}.switch VALUES (1)")

    def behind(self):
        """Rows of the table that it has not."""
        return self.place.clickhouse_rows() - self.place.clickhouse_rows(self.TABLE)

    def wait_behind(self, seconds=30):
        wait_until(lambda: self.behind() > 0, "the table ahead of its view", seconds)

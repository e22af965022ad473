-- SPDX-License-Identifier: Apache-2.0
-- Letters without the header created_at can then no longer be retried into columns that take kafka.timestamp.

ALTER TABLE outbox_relay_dead_letters DROP COLUMN IF EXISTS kafka_timestamp;

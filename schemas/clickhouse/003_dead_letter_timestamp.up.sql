-- SPDX-License-Identifier: Apache-2.0
-- The timestamp of the message, for routes that store it (kafka.timestamp): retry takes it from here. NULL: the message
-- had none, or the letter is older than the column; then created_at of its headers stands for it.

ALTER TABLE outbox_relay_dead_letters
    ADD COLUMN IF NOT EXISTS kafka_timestamp Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)) AFTER kafka_offset;

-- SPDX-License-Identifier: Apache-2.0
-- Dead letters are messages that nobody has yet; they are not thrown away with the table. Stop the relay first: what it
-- inserts between the two statements is not seen.

SELECT throwIf(countIf(total_rows > 0) > 0, 'outbox_relay_dead_letters still holds messages: retry or drop them first (outbox-relay dead-letters list --stage insert)')
FROM system.tables WHERE database = currentDatabase() AND name = 'outbox_relay_dead_letters' FORMAT Null;
DROP TABLE IF EXISTS outbox_relay_dead_letters;

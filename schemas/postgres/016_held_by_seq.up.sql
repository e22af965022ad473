-- SPDX-License-Identifier: Apache-2.0
-- Held aggregates are looked at in the order of the rows behind which they are held: a piece of them, or the first.

CREATE INDEX held_aggregates_lowest_seq ON outbox_relay.held_aggregates (identity, lowest_seq);

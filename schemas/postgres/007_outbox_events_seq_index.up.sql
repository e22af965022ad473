-- relay:no-transaction
-- SPDX-License-Identifier: Apache-2.0
-- The index the relay reads by. A new table has it already.

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS outbox_events_unpublished_seq_idx ON public.outbox_events (seq) WHERE published_at IS NULL;

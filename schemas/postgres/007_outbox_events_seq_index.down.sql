-- SPDX-License-Identifier: Apache-2.0
-- An adopted table loses the index; a new one keeps it, since it came with the table.

DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM outbox_relay.adoptions a WHERE a.outbox = 'public.outbox_events'::regclass) THEN
        PERFORM pg_catalog.set_config('lock_timeout', '2s', true);
        DROP INDEX IF EXISTS public.outbox_events_unpublished_seq_idx;
    END IF;
END
$$;

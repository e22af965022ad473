-- SPDX-License-Identifier: Apache-2.0
-- An adopted table loses the index; a new one keeps it, since it came with the table.

DO $$
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF EXISTS (SELECT 1 FROM outbox_relay.adoptions a WHERE a.outbox::oid = to_regclass('public.outbox_events')::oid) THEN
        PERFORM pg_catalog.set_config('lock_timeout', '2s', true);
        DROP INDEX IF EXISTS public.outbox_events_unpublished_seq_idx;
    END IF;
END
$$;

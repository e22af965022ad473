-- SPDX-License-Identifier: Apache-2.0
-- Drops public.outbox_events if the relay's migration made it, and if nothing is left to publish. An adopted
-- table has been given back by then, and stays.

-- What a writer commits while we wait for its lock is to be seen.
SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
DO $$
DECLARE
    was_adopted boolean;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    -- Rows that a policy hides would be dropped unseen: an error instead.
    PERFORM pg_catalog.set_config('row_security', 'off', true);
    SELECT o.adopted INTO was_adopted FROM outbox_relay.outboxes o
     WHERE o.outbox::oid = to_regclass('public.outbox_events')::oid;
    IF was_adopted IS NOT DISTINCT FROM false THEN
        -- Before the look: a writer that has inserted holds the table, and commits before we go on.
        LOCK TABLE public.outbox_events IN ACCESS EXCLUSIVE MODE;
        IF EXISTS (SELECT 1 FROM public.outbox_events WHERE published_at IS NULL) THEN
            RAISE EXCEPTION 'public.outbox_events still holds events that are not published'
                USING HINT = 'Let the relay drain it first, or delete them yourself.';
        END IF;
        -- They go back into this table, or nowhere.
        IF EXISTS (SELECT 1 FROM public.outbox_dead_letters d WHERE d.outbox = 'public.outbox_events') THEN
            RAISE EXCEPTION 'public.outbox_dead_letters still holds events of public.outbox_events'
                USING HINT = 'Retry or drop them first: outbox-relay dead-letters list.';
        END IF;
        PERFORM outbox_relay.detach_outbox('public.outbox_events');
        DROP TABLE public.outbox_events;
    END IF;
    -- Tables that were dropped by hand.
    DELETE FROM outbox_relay.batch_numbers b USING outbox_relay.outboxes o
     WHERE b.identity = o.identity AND NOT EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = o.outbox::oid);
    DELETE FROM outbox_relay.outboxes o WHERE NOT EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = o.outbox::oid);
    IF EXISTS (SELECT 1 FROM outbox_relay.outboxes) THEN
        RAISE EXCEPTION 'other outbox tables are still attached: %',
            (SELECT string_agg(o.outbox::text, ', ') FROM outbox_relay.outboxes o)
            USING HINT = 'SELECT outbox_relay.detach_outbox(''schema.table'') takes the relay off and leaves the table.';
    END IF;
END
$$;
DROP FUNCTION outbox_relay.detach_outbox(regclass);
DROP FUNCTION outbox_relay.create_outbox(text);
DROP FUNCTION outbox_relay.attach_outbox(regclass, name, name, boolean);
DROP FUNCTION outbox_relay.seq_index_name(regclass);
DROP FUNCTION outbox_relay.set_queue_storage(regclass);

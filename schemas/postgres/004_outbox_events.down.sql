-- SPDX-License-Identifier: Apache-2.0
-- Drops public.outbox_events if the relay's migration made it, and if nothing is left to publish. An adopted
-- table has been given back by then, and stays.

DO $$
DECLARE
    was_adopted boolean;
BEGIN
    SELECT o.adopted INTO was_adopted FROM outbox_relay.outboxes o WHERE o.outbox = to_regclass('public.outbox_events');
    IF was_adopted IS NOT DISTINCT FROM false THEN
        IF EXISTS (SELECT 1 FROM public.outbox_events WHERE published_at IS NULL) THEN
            RAISE EXCEPTION 'public.outbox_events still holds events that are not published'
                USING HINT = 'Let the relay drain it first, or delete them yourself.';
        END IF;
        PERFORM outbox_relay.detach_outbox('public.outbox_events');
        DROP TABLE public.outbox_events;
    END IF;
    IF EXISTS (SELECT 1 FROM outbox_relay.outboxes) THEN
        RAISE EXCEPTION 'other outbox tables are still attached: %',
            (SELECT pg_catalog.string_agg(o.outbox::text, ', ') FROM outbox_relay.outboxes o)
            USING HINT = 'SELECT outbox_relay.detach_outbox(''schema.table'') takes the relay off and leaves the table.';
    END IF;
END
$$;
DROP FUNCTION outbox_relay.detach_outbox(regclass);
DROP FUNCTION outbox_relay.create_outbox(text);
DROP FUNCTION outbox_relay.attach_outbox(regclass, name, name, boolean);
DROP FUNCTION outbox_relay.seq_index_name(regclass);
DROP FUNCTION outbox_relay.set_queue_storage(regclass);

-- SPDX-License-Identifier: Apache-2.0
-- Everything of ours is gone by now but this; schema_migrations belongs to the migrate command and may remain.

DROP FUNCTION outbox_relay.accept_system(regclass);
DROP FUNCTION outbox_relay.renew_identity(regclass);
DROP FUNCTION outbox_relay.note_progress(uuid, bigint);
DROP FUNCTION outbox_relay.begin_generation(uuid, bigint);
DROP FUNCTION outbox_relay.last_batch_number(uuid);
DROP FUNCTION outbox_relay.write_batch_number(uuid, integer, bigint, text, integer, bigint);
DROP TABLE outbox_relay.parked_event_types;
DROP TABLE outbox_relay.held_aggregates;
DROP TABLE outbox_relay.progress;
DROP TABLE outbox_relay.batch_numbers;
DROP TABLE outbox_relay.outboxes;
DO $$
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.relnamespace = 'outbox_relay'::pg_catalog.regnamespace)
       AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'outbox_relay'::pg_catalog.regnamespace) THEN
        DROP SCHEMA outbox_relay;
    END IF;
END
$$;

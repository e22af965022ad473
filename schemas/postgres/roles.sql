-- SPDX-License-Identifier: Apache-2.0
-- Least privilege. Not part of the migrations, since roles belong to the whole cluster: run it once by a role that may
-- create roles and owns the outbox tables, and again after each new outbox table or column. Safe to repeat.
--   outbox_writer    the application: inserts events, reads nothing
--   outbox_relay     the daemon: reads, deletes and marks events; owns nothing, creates nothing
--   outbox_operator  the daemon's rights, and puts dead letters and kept events back
--   outbox_monitor   health and figures, no event
-- They cannot log in: GRANT outbox_writer TO my_service.
-- outbox_writer inserts into every outbox of the database. Where several services have one each, and none is to speak in the
-- name of another, give each login its own instead, and no outbox_writer:
--   GRANT USAGE ON SCHEMA billing TO billing_service;
--   GRANT INSERT (id, aggregate_type, aggregate_id, event_type, payload, metadata) ON billing.outbox_events TO billing_service;

-- Mostly run by a superuser: nobody else's operators are to be found.
SET search_path = pg_catalog, pg_temp;

DO $$
DECLARE
    wanted text;
    known record;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['outbox_writer', 'outbox_relay', 'outbox_operator', 'outbox_monitor'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles r WHERE r.rolname = wanted) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
    IF NOT pg_catalog.pg_has_role('outbox_operator', 'outbox_relay', 'MEMBER') THEN
        GRANT outbox_relay TO outbox_operator;
    END IF;
    IF NOT pg_catalog.pg_has_role('outbox_relay', 'outbox_monitor', 'MEMBER') THEN
        GRANT outbox_monitor TO outbox_relay;
    END IF;

    FOR known IN SELECT o.outbox, o.seq_column, c.oid IS NOT NULL AS there, n.nspname,
                        EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t WHERE t.tgrelid = o.outbox::oid
                                   AND t.tgfoid = 'outbox_relay.notify_wakeup()'::pg_catalog.regprocedure::oid) AS woken
                   FROM outbox_relay.outboxes o LEFT JOIN pg_catalog.pg_class c ON c.oid = o.outbox::oid
                   LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LOOP
        -- Of an outbox that was dropped a dump keeps the number alone, which on another server may be any table's. The trigger is
        -- made by the relay only.
        IF NOT known.woken THEN
            RAISE WARNING '% is registered as an outbox, and %: nothing is granted on it', known.outbox,
                    CASE WHEN known.there THEN 'has no trigger that wakes the relay' ELSE 'there is no such table' END
                USING HINT = CASE WHEN known.there
                                  THEN pg_catalog.format('If it is an outbox: SELECT outbox_relay.create_wakeup_trigger(%L); if it is none: ',
                                                         known.outbox)
                                  ELSE '' END || pg_catalog.format('SELECT outbox_relay.detach_outbox(%L);', known.outbox);
            CONTINUE;
        END IF;
        EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA %I TO outbox_writer, outbox_relay', known.nspname);
        EXECUTE pg_catalog.format('GRANT INSERT ON %s TO outbox_operator', known.outbox);
        -- All columns but the number: OVERRIDING SYSTEM VALUE could take the last one there is, and nothing would follow it.
        SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ') INTO wanted FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = known.outbox::oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> known.seq_column;
        EXECUTE pg_catalog.format('REVOKE INSERT ON %s FROM outbox_writer', known.outbox);
        EXECUTE pg_catalog.format('GRANT INSERT (%s) ON %s TO outbox_writer', wanted, known.outbox);
        EXECUTE pg_catalog.format('GRANT SELECT, DELETE ON %s TO outbox_relay', known.outbox);
        -- Marking, and new numbers for replayed events; the event itself is never changed. A table of one's own may have
        -- fewer columns.
        SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ') INTO wanted FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = known.outbox::oid AND NOT a.attisdropped
           AND (a.attname IN ('published_at', 'retry_count', 'last_error') OR a.attname = known.seq_column);
        IF EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = known.outbox::oid AND a.attname = 'published_at') THEN
            EXECUTE pg_catalog.format('GRANT UPDATE (%s) ON %s TO outbox_relay', wanted, known.outbox);
        END IF;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA outbox_relay TO outbox_relay, outbox_monitor;
GRANT SELECT ON outbox_relay.outboxes, outbox_relay.progress TO outbox_monitor;
GRANT SELECT, INSERT, DELETE ON outbox_relay.batch_numbers TO outbox_relay;
GRANT SELECT, INSERT, UPDATE ON outbox_relay.progress TO outbox_relay;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox_relay.held_aggregates, outbox_relay.parked_topics,
    outbox_relay.parked_event_types TO outbox_relay; -- the last one for the version before
GRANT SELECT, INSERT ON public.outbox_dead_letters TO outbox_relay;
GRANT DELETE ON public.outbox_dead_letters TO outbox_operator;
GRANT SELECT ON public.outbox_status TO outbox_monitor;

GRANT EXECUTE ON FUNCTION
    outbox_relay.write_batch_number(uuid, integer, bigint, text, integer, bigint),
    outbox_relay.last_batch_number(uuid),
    outbox_relay.note_progress(uuid, bigint),
    outbox_relay.try_sleep(regclass, integer),
    outbox_relay.dead_letter(regclass, bigint, text, text, integer, timestamptz, regclass)
    TO outbox_relay;
-- Who ran this of the version before has given begin_generation to outbox_relay, whose own `check` still asks for it: it is not
-- taken away yet.
GRANT EXECUTE ON FUNCTION
    outbox_relay.begin_generation(uuid, bigint),
    outbox_relay.retry_dead_letter(bigint, regclass)
    TO outbox_operator;
GRANT EXECUTE ON FUNCTION
    outbox_relay.check_outbox_health(regclass, bigint, bigint, interval, interval),
    outbox_relay.count_unpublished(regclass, bigint),
    outbox_relay.count_dead_letters(regclass)
    TO outbox_monitor;

-- What the migrate command has recorded, for outbox-relay check.
DO $$
BEGIN
    IF to_regclass('outbox_relay.schema_migrations') IS NOT NULL THEN
        GRANT SELECT ON outbox_relay.schema_migrations TO outbox_monitor;
    END IF;
END
$$;

RESET search_path;

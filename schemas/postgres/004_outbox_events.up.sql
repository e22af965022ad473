-- SPDX-License-Identifier: Apache-2.0
-- The outbox table, and the functions that make further ones. A table of that name that already exists is
-- left as it is here and adopted by the next files.

-- Storage settings of a queue: vacuum by count, at full speed, since what it leaves behind is in the way of
-- every read; never truncate, since that takes an exclusive lock each time the queue runs empty.
CREATE FUNCTION outbox_relay.set_queue_storage(of_outbox regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    has_toast boolean;
BEGIN
    EXECUTE format(
        'ALTER TABLE %s SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, '
        'autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000, '
        'autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000, '
        'autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false)', of_outbox);
    SELECT c.reltoastrelid <> 0 INTO has_toast FROM pg_class c WHERE c.oid = of_outbox;
    IF has_toast THEN
        EXECUTE format(
            'ALTER TABLE %s SET (toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 5000, '
            'toast.autovacuum_vacuum_cost_delay = 0, toast.vacuum_truncate = false)', of_outbox);
    END IF;
    -- lz4 costs the writers a fraction of pglz; from PostgreSQL 14 on, and only if it was built in.
    IF current_setting('server_version_num')::integer >= 140000
       AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = 'payload'
                      AND a.attstorage = 'x' AND NOT a.attisdropped) THEN
        BEGIN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN payload SET COMPRESSION lz4', of_outbox);
        EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
            NULL;
        END;
    END IF;
END
$function$;

-- Name of the index that the relay reads by: (seq) of the rows not yet published, unique.
CREATE FUNCTION outbox_relay.seq_index_name(of_outbox regclass)
RETURNS name LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT (left(c.relname, 43) || '_unpublished_seq_idx')::name FROM pg_class c WHERE c.oid = of_outbox
$function$;

-- Registers a complete table: identity, wake-up trigger. For tables of another form (other column names,
-- no published_at) too, as long as seq_column is a bigint identity with CACHE 1, and leads a unique index.
-- Safe to repeat; returns the identity.
CREATE FUNCTION outbox_relay.attach_outbox(
    of_outbox regclass, seq_name name DEFAULT 'seq', time_name name DEFAULT 'created_at',
    was_adopted boolean DEFAULT false)
RETURNS uuid LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    found_identity uuid;
    sequence_of record;
BEGIN
    PERFORM 1 FROM pg_attribute a
      WHERE a.attrelid = of_outbox AND a.attname = seq_name AND a.attidentity <> '' AND a.atttypid = 'bigint'::regtype;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'column %.% is not a bigint identity column', of_outbox, seq_name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'CALL outbox_relay.adopt_outbox(...) adds it without a long lock.';
    END IF;
    SELECT s.* INTO sequence_of FROM pg_sequence s
     WHERE s.seqrelid = pg_get_serial_sequence(of_outbox::text, seq_name)::regclass;
    -- A cached or descending sequence breaks the order of events, a cycling one uniqueness.
    IF sequence_of.seqcache <> 1 OR sequence_of.seqincrement <> 1 OR sequence_of.seqcycle THEN
        RAISE EXCEPTION 'the sequence of %.% must have CACHE 1, INCREMENT 1 and NO CYCLE', of_outbox, seq_name
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = of_outbox AND a.attname = seq_name
      WHERE i.indrelid = of_outbox AND i.indisunique AND i.indisvalid AND i.indkey[0] = a.attnum AND i.indnkeyatts = 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no valid unique index on %(%)', of_outbox, seq_name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('CREATE UNIQUE INDEX CONCURRENTLY %I ON %s (%I) WHERE published_at IS NULL;',
                                outbox_relay.seq_index_name(of_outbox), of_outbox, seq_name);
    END IF;
    PERFORM outbox_relay.create_wakeup_trigger(of_outbox);
    INSERT INTO outbox_relay.outboxes (outbox, system_identifier, adopted, seq_column, created_at_column)
    SELECT of_outbox, c.system_identifier, was_adopted, seq_name, time_name FROM pg_control_system() c
    ON CONFLICT (outbox) DO NOTHING;
    SELECT o.identity INTO found_identity FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox;
    RETURN found_identity;
END
$function$;

-- Creates an outbox table of the standard form: SELECT outbox_relay.create_outbox('billing.outbox').
-- Returns its identity. A table of that name must not exist.
CREATE FUNCTION outbox_relay.create_outbox(table_name text)
RETURNS uuid LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    parts text[] := parse_ident(table_name);
    qualified text;
    created regclass;
BEGIN
    IF cardinality(parts) = 1 THEN
        parts := ARRAY['public'] || parts;
    ELSIF cardinality(parts) <> 2 THEN
        RAISE EXCEPTION '% is not a table name of the form schema.table', table_name USING ERRCODE = 'invalid_name';
    END IF;
    qualified := format('%I.%I', parts[1], parts[2]);
    EXECUTE format($table$
        CREATE TABLE %s (
            id             uuid         PRIMARY KEY DEFAULT gen_random_uuid(),
            aggregate_type varchar(255) NOT NULL,
            aggregate_id   uuid         NOT NULL,
            event_type     varchar(255) NOT NULL,
            payload        jsonb        NOT NULL,
            metadata       jsonb,
            created_at     timestamptz  NOT NULL DEFAULT now(),
            published_at   timestamptz,
            retry_count    integer      NOT NULL DEFAULT 0 CHECK (retry_count >= 0),
            last_error     text,
            seq            bigint       NOT NULL GENERATED ALWAYS AS IDENTITY (CACHE 1 NO CYCLE),
            CHECK (published_at IS NULL OR published_at >= created_at)
        )$table$, qualified);
    created := qualified::regclass;
    EXECUTE format('CREATE UNIQUE INDEX %I ON %s (seq) WHERE published_at IS NULL',
                   outbox_relay.seq_index_name(created), created);
    EXECUTE format('COMMENT ON TABLE %s IS %L', created,
                   'transactional outbox: insert an event in your own transaction, outbox-relay publishes it');
    PERFORM outbox_relay.set_queue_storage(created);
    RETURN outbox_relay.attach_outbox(created);
END
$function$;

-- Takes the relay's trigger and registration off a table; the table, its rows and its seq stay.
CREATE FUNCTION outbox_relay.detach_outbox(of_outbox regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    EXECUTE format('DROP TRIGGER IF EXISTS outbox_relay_wakeup ON %s', of_outbox);
    DELETE FROM outbox_relay.batch_numbers b USING outbox_relay.outboxes o
     WHERE b.identity = o.identity AND o.outbox = of_outbox;
    DELETE FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox;
END
$function$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA outbox_relay FROM PUBLIC;

DO $$
BEGIN
    IF to_regclass('public.outbox_events') IS NULL THEN
        PERFORM outbox_relay.create_outbox('public.outbox_events');
    END IF;
END
$$;

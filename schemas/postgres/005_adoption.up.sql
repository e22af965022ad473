-- SPDX-License-Identifier: Apache-2.0
-- Adopting a table that an application already uses: same columns, but no seq, and rows marked by published_at.
-- Three steps, each resumable: adopt_outbox (column, default, backfill), the unique index (CREATE INDEX
-- CONCURRENTLY, which no procedure can run), finish_adoption (NOT NULL, identity, trigger, registration).
-- Writers and the old relay go on meanwhile; start this relay after the last step, and stop the old one before.
--
-- Rows that are there get 1, 2, 3 ... in the order (created_at, ctid). New rows get numbers from a start above every number
-- the old ones can need, from the moment the column has its default: so old before new, whatever is done when.

-- Where an unfinished adoption stands. seq_start is the first number of new rows, next_seq the next of an old one.
CREATE TABLE outbox_relay.adoptions (
    outbox        regclass PRIMARY KEY,
    sequence_name text     NOT NULL,
    seq_start     bigint   NOT NULL,
    next_seq      bigint   NOT NULL
);

-- Runs one short DDL step under an exclusive lock, waiting for the lock for 100 ms at a time, so that the writers
-- that queue behind it stand for no longer. COMMITs; raises after the given number of tries.
CREATE PROCEDURE outbox_relay.run_short_step(of_outbox regclass, step text, tries integer DEFAULT 600)
LANGUAGE plpgsql
AS $procedure$
DECLARE
    done boolean := false;
BEGIN
    FOR try IN 1..tries LOOP
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        PERFORM pg_catalog.set_config('lock_timeout', '100ms', true);
        BEGIN
            EXECUTE pg_catalog.format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', of_outbox);
            EXECUTE 'SELECT ' || step || '($1)' USING of_outbox;
            done := true;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            NULL;
        END;
        COMMIT;
        EXIT WHEN done;
        -- Let the writers through that queued behind the request.
        PERFORM pg_catalog.pg_sleep(0.2 + pg_catalog.random() * 0.3);
        COMMIT;
    END LOOP;
    IF NOT done THEN
        RAISE EXCEPTION 'no exclusive lock on % in % tries: long transactions use it', of_outbox, tries
            USING ERRCODE = 'lock_not_available', HINT = 'Run the migration again; it goes on where it stopped.';
    END IF;
END
$procedure$;

-- Under an exclusive lock: gives the table a nullable seq with a default for new rows.
CREATE FUNCTION outbox_relay.begin_adoption(of_outbox regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    sequence_name text := format('outbox_relay.%I', 'adopted_seq_' || of_outbox::oid::text);
    start bigint;
BEGIN
    EXECUTE format('ALTER TABLE %s ADD COLUMN seq bigint', of_outbox);
    -- A row takes at least 28 bytes of its page: a bound of their number, not a guess, and nobody can add one now.
    start := 1 + pg_relation_size(of_outbox) / 28;
    EXECUTE format('CREATE SEQUENCE %s AS bigint START WITH %s CACHE 1 NO CYCLE', sequence_name, start);
    -- Every role that may insert draws numbers; identity columns will need no such grant.
    EXECUTE format('GRANT USAGE ON SEQUENCE %s TO PUBLIC', sequence_name);
    EXECUTE format('ALTER TABLE %s ALTER COLUMN seq SET DEFAULT nextval(%L::regclass)', of_outbox, sequence_name);
    INSERT INTO outbox_relay.adoptions (outbox, sequence_name, seq_start, next_seq)
    VALUES (of_outbox, sequence_name, start, 1);
END
$function$;

-- Under an exclusive lock, after the backfill: from a default to an identity above the last number drawn.
CREATE FUNCTION outbox_relay.make_identity(of_outbox regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    at record;
    last_drawn bigint;
BEGIN
    SELECT a.* INTO at FROM outbox_relay.adoptions a WHERE a.outbox = of_outbox;
    EXECUTE format('SELECT last_value FROM %s', at.sequence_name) INTO last_drawn;
    -- In statements of their own: dropped in the same one, the check would not spare SET NOT NULL its scan.
    EXECUTE format('ALTER TABLE %s ALTER COLUMN seq SET NOT NULL', of_outbox);
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT outbox_relay_seq_not_null, ALTER COLUMN seq DROP DEFAULT', of_outbox);
    EXECUTE format(
        'ALTER TABLE %s ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (START WITH %s CACHE 1 NO CYCLE)',
        of_outbox, greatest(last_drawn, at.next_seq) + 1);
    EXECUTE 'DROP SEQUENCE ' || at.sequence_name;
    PERFORM outbox_relay.attach_outbox(of_outbox, was_adopted => true);
    UPDATE outbox_relay.outboxes o SET gap_from = at.next_seq, gap_to = greatest(at.seq_start, at.next_seq)
     WHERE o.outbox = of_outbox;
    DELETE FROM outbox_relay.adoptions a WHERE a.outbox = of_outbox;
END
$function$;

-- Under an exclusive lock: a check that makes SET NOT NULL free of a scan. Not valid yet; valid for new rows.
CREATE FUNCTION outbox_relay.add_not_null_check(of_outbox regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conrelid = of_outbox AND c.conname = 'outbox_relay_seq_not_null') THEN
        EXECUTE format('ALTER TABLE %s ADD CONSTRAINT outbox_relay_seq_not_null CHECK (seq IS NOT NULL) NOT VALID', of_outbox);
    END IF;
END
$function$;

-- Gives seq to the rows that have none, batch by batch, each in a transaction of its own.
CREATE PROCEDURE outbox_relay.backfill_seq(of_outbox regclass, batch_rows integer)
LANGUAGE plpgsql
AS $procedure$
DECLARE
    ids uuid[];
    done boolean;
    failures integer := 0;
    numbered bigint := 0;
    told timestamptz := pg_catalog.clock_timestamp();
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    -- The cursor's rows are kept aside at the first COMMIT: one sort, no snapshot held.
    FOR ids IN EXECUTE pg_catalog.format(
        'SELECT array_agg(s.id ORDER BY s.place) FROM ('
        'SELECT t.id, pg_catalog.row_number() OVER (ORDER BY t.created_at, t.ctid) - 1 AS place FROM %s t WHERE t.seq IS NULL) s '
        'GROUP BY s.place / %s ORDER BY s.place / %2$s', of_outbox, batch_rows)
    LOOP
        done := false;
        WHILE NOT done LOOP
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
            PERFORM pg_catalog.set_config('lock_timeout', '2s', true);
            BEGIN
                EXECUTE pg_catalog.format(
                    'UPDATE %s t SET seq = a.next_seq + n.place - 1 '
                    'FROM outbox_relay.adoptions a, pg_catalog.unnest($1) WITH ORDINALITY n(id, place) '
                    'WHERE a.outbox = $2 AND t.id = n.id AND t.seq IS NULL', of_outbox)
                USING ids, of_outbox;
                UPDATE outbox_relay.adoptions a SET next_seq = a.next_seq + pg_catalog.cardinality(ids)
                 WHERE a.outbox = of_outbox;
                done := true;
                failures := 0;
                numbered := numbered + pg_catalog.cardinality(ids);
            EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
                failures := failures + 1;
            END;
            COMMIT;
            IF pg_catalog.clock_timestamp() > told + interval '5 seconds' THEN
                told := pg_catalog.clock_timestamp();
                RAISE NOTICE '% rows of % have their number', numbered, of_outbox;
            END IF;
            IF failures > 100 THEN
                RAISE EXCEPTION 'rows of % stay locked by another transaction', of_outbox
                    USING ERRCODE = 'lock_not_available', HINT = 'Run the migration again; it goes on where it stopped.';
            END IF;
        END LOOP;
    END LOOP;
END
$procedure$;

-- First step: CALL outbox_relay.adopt_outbox('public.outbox_events'), outside a transaction. Nothing to do for a
-- table that has its identity column already.
CREATE PROCEDURE outbox_relay.adopt_outbox(of_outbox regclass, batch_rows integer DEFAULT 5000)
LANGUAGE plpgsql
AS $procedure$
DECLARE
    missing text;
    identity_kind "char";
    resumed boolean := EXISTS (SELECT 1 FROM outbox_relay.adoptions a WHERE a.outbox = of_outbox);
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    SELECT a.attidentity INTO identity_kind FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = of_outbox AND a.attname = 'seq' AND NOT a.attisdropped;
    IF identity_kind <> '' THEN
        RETURN;
    ELSIF identity_kind = '' AND NOT resumed THEN
        RAISE EXCEPTION 'cannot adopt %: it has a column seq of its own, which is no identity column', of_outbox
            USING ERRCODE = 'duplicate_column',
                  HINT = 'Make it GENERATED ALWAYS AS IDENTITY above its highest value and use outbox_relay.attach_outbox().';
    END IF;
    SELECT pg_catalog.string_agg(w.name || ' ' || w.type, ', ') INTO missing
      FROM (VALUES ('id', 'uuid'), ('created_at', 'timestamp with time zone'),
                   ('published_at', 'timestamp with time zone')) w(name, type)
     WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = w.name
                          AND NOT a.attisdropped AND pg_catalog.format_type(a.atttypid, NULL) = w.type);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'cannot adopt %: it has no column %', of_outbox, missing
            USING ERRCODE = 'undefined_column',
                  HINT = 'Add an identity column yourself and use outbox_relay.attach_outbox().';
    END IF;
    IF (SELECT c.relkind FROM pg_catalog.pg_class c WHERE c.oid = of_outbox) <> 'r' THEN
        RAISE EXCEPTION 'cannot adopt %: it is not a plain table', of_outbox USING ERRCODE = 'wrong_object_type';
    END IF;
    IF NOT resumed THEN
        CALL outbox_relay.run_short_step(of_outbox, 'outbox_relay.begin_adoption');
    END IF;
    CALL outbox_relay.backfill_seq(of_outbox, batch_rows);
END
$procedure$;

-- Third step, outside a transaction, after the unique index is there.
CREATE PROCEDURE outbox_relay.finish_adoption(of_outbox regclass)
LANGUAGE plpgsql
AS $procedure$
DECLARE
    index_name text;
    index_state boolean;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF NOT EXISTS (SELECT 1 FROM outbox_relay.adoptions a WHERE a.outbox = of_outbox) THEN
        RETURN;
    END IF;
    SELECT pg_catalog.format('%I.%I', n.nspname, outbox_relay.seq_index_name(of_outbox)) INTO index_name
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = of_outbox;
    SELECT i.indisvalid INTO index_state FROM pg_catalog.pg_index i WHERE i.indexrelid = pg_catalog.to_regclass(index_name);
    IF index_state IS DISTINCT FROM true THEN
        RAISE EXCEPTION 'index % of % is %', index_name, of_outbox,
                CASE WHEN index_state IS NULL THEN 'missing' ELSE 'invalid: its CREATE INDEX CONCURRENTLY did not end well' END
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = CASE WHEN index_state IS NULL
                              THEN pg_catalog.format('CREATE UNIQUE INDEX CONCURRENTLY %I ON %s (seq) WHERE published_at IS NULL;',
                                                     outbox_relay.seq_index_name(of_outbox), of_outbox)
                              ELSE pg_catalog.format('REINDEX INDEX CONCURRENTLY %s;', index_name) END
                         || ' Then run the migration again.';
    END IF;
    -- Rows that a session with an explicit NULL, or a restored copy, brought in since.
    CALL outbox_relay.backfill_seq(of_outbox, 5000);
    CALL outbox_relay.run_short_step(of_outbox, 'outbox_relay.add_not_null_check');
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    EXECUTE pg_catalog.format('ALTER TABLE %s VALIDATE CONSTRAINT outbox_relay_seq_not_null', of_outbox);
    COMMIT;
    CALL outbox_relay.run_short_step(of_outbox, 'outbox_relay.set_queue_storage');
    CALL outbox_relay.run_short_step(of_outbox, 'outbox_relay.make_identity');
END
$procedure$;

-- Takes back finish_adoption: the trigger, the registration and the identity go, the default comes back.
CREATE FUNCTION outbox_relay.revert_adoption(of_outbox regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
AS $function$
DECLARE
    sequence_name text := format('outbox_relay.%I', 'adopted_seq_' || of_outbox::oid::text);
    old_sequence text := pg_get_serial_sequence(of_outbox::text, 'seq');
    last_drawn bigint;
    was_adopted boolean;
BEGIN
    SELECT o.adopted INTO was_adopted FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox;
    IF was_adopted IS DISTINCT FROM true THEN
        RETURN;
    END IF;
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', of_outbox);
    EXECUTE format('SELECT last_value + 1 FROM %s', old_sequence) INTO last_drawn;
    PERFORM outbox_relay.detach_outbox(of_outbox);
    EXECUTE format('ALTER TABLE %s ALTER COLUMN seq DROP IDENTITY, ALTER COLUMN seq DROP NOT NULL', of_outbox);
    EXECUTE format('ALTER TABLE %s RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, '
                   'autovacuum_vacuum_insert_scale_factor, autovacuum_vacuum_insert_threshold, '
                   'autovacuum_analyze_scale_factor, autovacuum_analyze_threshold, autovacuum_vacuum_cost_delay, '
                   'vacuum_truncate, toast.autovacuum_vacuum_scale_factor, toast.autovacuum_vacuum_threshold, '
                   'toast.autovacuum_vacuum_cost_delay, toast.vacuum_truncate)', of_outbox);
    EXECUTE format('CREATE SEQUENCE %s AS bigint START WITH %s CACHE 1 NO CYCLE', sequence_name, last_drawn);
    EXECUTE format('GRANT USAGE ON SEQUENCE %s TO PUBLIC', sequence_name);
    EXECUTE format('ALTER TABLE %s ALTER COLUMN seq SET DEFAULT nextval(%L::regclass)', of_outbox, sequence_name);
    INSERT INTO outbox_relay.adoptions (outbox, sequence_name, seq_start, next_seq)
    VALUES (of_outbox, sequence_name, last_drawn, last_drawn);
END
$function$;

-- Takes back adopt_outbox: the column goes with all that hangs on it, in one short step.
CREATE FUNCTION outbox_relay.abandon_adoption(of_outbox regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
AS $function$
DECLARE
    at record;
BEGIN
    SELECT a.* INTO at FROM outbox_relay.adoptions a WHERE a.outbox = of_outbox;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    EXECUTE format('ALTER TABLE %s DROP COLUMN IF EXISTS seq', of_outbox);
    EXECUTE 'DROP SEQUENCE IF EXISTS ' || at.sequence_name;
    DELETE FROM outbox_relay.adoptions a WHERE a.outbox = of_outbox;
END
$function$;

-- Drops indexes of the relay's outboxes that a failed CREATE INDEX CONCURRENTLY left invalid, unless one is
-- being built right now. For the migrate command, before it builds again.
CREATE FUNCTION outbox_relay.drop_invalid_indexes()
RETURNS integer LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
AS $function$
DECLARE
    broken regclass;
    dropped integer := 0;
BEGIN
    FOR broken IN
        SELECT i.indexrelid::regclass
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE NOT i.indisvalid AND c.relname = outbox_relay.seq_index_name(i.indrelid)
           AND i.indrelid IN (SELECT o.outbox FROM outbox_relay.outboxes o UNION SELECT a.outbox FROM outbox_relay.adoptions a)
           AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index p WHERE p.relid = i.indrelid)
    LOOP
        EXECUTE 'DROP INDEX ' || broken::text;
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$function$;

REVOKE ALL ON ALL ROUTINES IN SCHEMA outbox_relay FROM PUBLIC;

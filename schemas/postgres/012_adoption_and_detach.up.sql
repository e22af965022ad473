-- SPDX-License-Identifier: Apache-2.0
-- Adoption runs nobody else's operators, and asks for an id that is unique before it numbers a row; a table that was
-- dropped can be detached.

-- As in 005, with the search_path set again after each COMMIT, before an operator is looked up.
CREATE OR REPLACE PROCEDURE outbox_relay.run_short_step(of_outbox regclass, step text, tries integer DEFAULT 600)
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
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        PERFORM pg_catalog.pg_sleep(0.2 + pg_catalog.random() * 0.3);
        COMMIT;
    END LOOP;
    IF NOT done THEN
        RAISE EXCEPTION 'no exclusive lock on % in % tries: long transactions use it', of_outbox, tries
            USING ERRCODE = 'lock_not_available', HINT = 'Run the migration again; it goes on where it stopped.';
    END IF;
END
$procedure$;

-- As in 005, with the search_path set before anything else, and a look at the column id.
CREATE OR REPLACE PROCEDURE outbox_relay.adopt_outbox(of_outbox regclass, batch_rows integer DEFAULT 5000)
LANGUAGE plpgsql
AS $procedure$
DECLARE
    missing text;
    identity_kind "char";
    resumed boolean;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    resumed := EXISTS (SELECT 1 FROM outbox_relay.adoptions a WHERE a.outbox = of_outbox);
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
    -- Rows are numbered by their id: each must have one, and each its own.
    PERFORM 1 FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indkey[0] = a.attnum
      WHERE a.attrelid = of_outbox AND a.attname = 'id' AND a.attnotnull
        AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indnkeyatts = 1 AND i.indpred IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'cannot adopt %: its column id is not unique and NOT NULL', of_outbox
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Give every row an id of its own, and the table a primary key on it.';
    END IF;
    IF NOT resumed THEN
        CALL outbox_relay.run_short_step(of_outbox, 'outbox_relay.begin_adoption');
    END IF;
    CALL outbox_relay.backfill_seq(of_outbox, batch_rows);
END
$procedure$;

-- Takes the relay's trigger and registration off a table; the table, its rows and its seq stay. Of a table that was dropped
-- the registration is left: SELECT outbox_relay.detach_outbox('17418').
CREATE OR REPLACE FUNCTION outbox_relay.detach_outbox(of_outbox regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = of_outbox) THEN
        EXECUTE format('DROP TRIGGER IF EXISTS outbox_relay_wakeup ON %s', of_outbox);
    END IF;
    DELETE FROM outbox_relay.batch_numbers b USING outbox_relay.outboxes o
     WHERE b.identity = o.identity AND o.outbox = of_outbox;
    DELETE FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox;
END
$function$;

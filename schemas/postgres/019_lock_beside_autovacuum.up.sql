-- SPDX-License-Identifier: Apache-2.0
-- Adoption gets its locks from a table that autovacuum is working on. migrate runs this file before 006 and 008 too, and again in
-- its turn, since 012 puts the older form back.

-- As in 012, but an autovacuum gives way first. PostgreSQL ends one for whoever has waited for deadlock_timeout (1 s), so
-- never for a request that is withdrawn after 100 ms. SHARE UPDATE EXCLUSIVE is in no writer's way, however long it is
-- waited for, and keeps the next autovacuum out. One against transaction ID wraparound is not ended.
CREATE OR REPLACE PROCEDURE outbox_relay.run_short_step(of_outbox regclass, step text, tries integer DEFAULT 600)
LANGUAGE plpgsql
AS $procedure$
DECLARE
    done boolean := false;
    used integer := 0;
    maintained boolean;
    holders text;
BEGIN
    LOOP
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        EXIT WHEN done OR used >= tries;
        PERFORM pg_catalog.set_config('lock_timeout', '10s', true);
        maintained := true;
        BEGIN
            EXECUTE pg_catalog.format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', of_outbox);
            maintained := false;
            PERFORM pg_catalog.set_config('lock_timeout', '100ms', true);
            EXECUTE pg_catalog.format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', of_outbox);
            EXECUTE 'SELECT ' || step || '($1)' USING of_outbox;
            done := true;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            -- Ten seconds of waiting are about as long as 25 tries.
            used := used + CASE WHEN maintained THEN 25 ELSE 1 END;
            IF used >= tries THEN
                SELECT pg_catalog.string_agg(DISTINCT pg_catalog.format('process %s (%s)', l.pid, l.mode), ', ') INTO holders
                  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database
                 WHERE d.datname = pg_catalog.current_database() AND l.relation = of_outbox::oid AND l.granted
                   AND l.pid <> pg_catalog.pg_backend_pid();
            END IF;
        END;
        COMMIT;
        IF NOT done THEN
            -- Let the writers through that queued behind the request.
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
            PERFORM pg_catalog.pg_sleep(0.2 + pg_catalog.random() * 0.3);
            COMMIT;
        END IF;
    END LOOP;
    IF NOT done THEN
        RAISE EXCEPTION 'no exclusive lock on % in % tries: %', of_outbox, tries,
                CASE WHEN maintained THEN 'a vacuum, an index build or another change of the table goes on' ELSE 'long transactions use it' END
            USING ERRCODE = 'lock_not_available', DETAIL = pg_catalog.concat('Locks on it: ', coalesce(holders, 'none any more'), '.'),
                  HINT = 'Run the migration again; it goes on where it stopped.';
    END IF;
END
$procedure$;

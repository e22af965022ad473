-- SPDX-License-Identifier: Apache-2.0
-- Takes our view and function away and puts back what a project had under these names.

-- It goes with a table that is dropped by hand.
DROP VIEW IF EXISTS public.outbox_status;
DROP FUNCTION public.check_outbox_health();
DO $$
DECLARE
    old outbox_relay.replaced_objects;
    reader text;
BEGIN
    -- Names in the old texts mean what they meant in the session's own path, whatever migrate has set.
    PERFORM pg_catalog.set_config('search_path', s.reset_val, true) FROM pg_catalog.pg_settings s
     WHERE s.name OPERATOR(pg_catalog.=) 'search_path';
    FOR old IN SELECT r.* FROM outbox_relay.replaced_objects r ORDER BY r.kind LOOP
        IF old.kind = 'function' THEN
            EXECUTE old.definition;
            -- Whose it was and who might call it was not kept. What would run with our rights is given to nobody.
            IF EXISTS (SELECT 1 FROM pg_catalog.pg_proc p
                        WHERE p.oid = pg_catalog.to_regprocedure(old.name || '()')::oid AND p.prosecdef) THEN
                EXECUTE 'REVOKE ALL ON FUNCTION ' || old.name || '() FROM PUBLIC';
                RAISE NOTICE 'function %() is back, and nobody but % may call it: ALTER FUNCTION ... OWNER TO, GRANT EXECUTE',
                    old.name, current_user;
            END IF;
        ELSE
            EXECUTE 'CREATE VIEW ' || old.name || ' AS ' || old.definition;
            FOREACH reader IN ARRAY old.readers LOOP
                EXECUTE 'GRANT SELECT ON ' || old.name || ' TO ' || reader;
            END LOOP;
        END IF;
    END LOOP;
END
$$;
DROP TABLE outbox_relay.replaced_objects;
DROP FUNCTION outbox_relay.outbox_status(regclass);
DROP FUNCTION outbox_relay.check_outbox_health(regclass, bigint, bigint, interval, interval);
DROP FUNCTION outbox_relay.count_dead_letters(regclass);
DROP FUNCTION outbox_relay.count_unpublished(regclass, bigint);
DROP FUNCTION outbox_relay.time_expression(regclass, name);

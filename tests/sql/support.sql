-- SPDX-License-Identifier: Apache-2.0
-- Assertions of the SQL cases: SELECT test.ok(...) prints one line that the runner counts.

SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS test;
GRANT USAGE ON SCHEMA test TO PUBLIC;

CREATE OR REPLACE FUNCTION test.ok(condition boolean, name text) RETURNS text LANGUAGE sql AS
$$ SELECT CASE WHEN condition THEN 'ok ' ELSE 'not ok ' END || name $$;

CREATE OR REPLACE FUNCTION test.same(got anyelement, wanted anyelement, name text) RETURNS text LANGUAGE sql AS
$$ SELECT CASE WHEN got IS NOT DISTINCT FROM wanted THEN 'ok ' || name
               ELSE format('not ok %s: got %s, expected %s', name, got, wanted) END $$;

-- The command must fail with this SQLSTATE.
CREATE OR REPLACE FUNCTION test.fails(command text, state text, name text) RETURNS text LANGUAGE plpgsql AS
$$
BEGIN
    EXECUTE command;
    RETURN format('not ok %s: it went through', name);
EXCEPTION WHEN OTHERS THEN
    RETURN CASE WHEN SQLSTATE = state THEN 'ok ' || name
                ELSE format('not ok %s: SQLSTATE %s: %s', name, SQLSTATE, SQLERRM) END;
END
$$;

-- Shared buffers that the command touches, functions inside included.
CREATE OR REPLACE FUNCTION test.buffers(command text) RETURNS bigint LANGUAGE plpgsql AS
$$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ' || command INTO plan;
    RETURN (plan->0->'Plan'->>'Shared Hit Blocks')::bigint + (plan->0->'Plan'->>'Shared Read Blocks')::bigint;
END
$$;

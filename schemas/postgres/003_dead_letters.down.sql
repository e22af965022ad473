-- SPDX-License-Identifier: Apache-2.0
-- Dead letters are events that nobody has yet; they are not thrown away with the schema.

SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
DO $$
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM pg_catalog.set_config('row_security', 'off', true);
    LOCK TABLE public.outbox_dead_letters IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (SELECT 1 FROM public.outbox_dead_letters) THEN
        RAISE EXCEPTION 'public.outbox_dead_letters still holds events'
            USING HINT = 'Retry or drop them first: outbox-relay dead-letters list.';
    END IF;
END
$$;
DROP FUNCTION outbox_relay.retry_dead_letter(bigint, regclass);
DROP FUNCTION outbox_relay.dead_letter(regclass, bigint, text, text, integer, timestamptz, regclass);
DROP TABLE public.outbox_dead_letters;

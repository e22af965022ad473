-- SPDX-License-Identifier: Apache-2.0
-- Health is judged by the whole table: where the owner itself is under row-level security (FORCE), rows that a policy
-- hides are an error, not "OK"; and numbers that went back are not below what was noted as settled.

ALTER FUNCTION outbox_relay.count_dead_letters(regclass) SET row_security = off;
ALTER FUNCTION outbox_relay.check_outbox_health(regclass, bigint, bigint, interval, interval) SET row_security = off;
ALTER FUNCTION outbox_relay.outbox_status(regclass) SET row_security = off;
ALTER FUNCTION public.check_outbox_health() SET row_security = off;

-- As in 009, but for the floor: after TRUNCATE ... RESTART IDENTITY, setval() or a move by logical replication new rows have
-- numbers below settled_seq, which only rises.
CREATE OR REPLACE FUNCTION outbox_relay.count_unpublished(
    of_outbox regclass, exact_up_to bigint,
    OUT unpublished bigint, OUT is_exact boolean, OUT oldest timestamptz, OUT newest timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET row_security = off
AS $function$
DECLARE
    known outbox_relay.outboxes;
    floor_seq bigint := -1;
    numbers regclass;
    unpublished_only text := '';
    first_seq bigint;
    last_seq bigint;
    gap bigint := 0;
    span bigint;
    step bigint;
    width bigint;
    sampled bigint;
BEGIN
    SELECT o.* INTO known FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % is not an outbox of the relay', of_outbox
            USING ERRCODE = 'undefined_object', HINT = 'Run outbox-relay migrate postgres, or outbox_relay.attach_outbox().';
    END IF;
    SELECT p.settled_seq INTO floor_seq FROM outbox_relay.progress p WHERE p.identity = known.identity;
    numbers := pg_get_serial_sequence(of_outbox::text, known.seq_column);
    IF floor_seq IS NULL
       OR (has_sequence_privilege(numbers, 'USAGE, SELECT') AND floor_seq > coalesce(pg_sequence_last_value(numbers), -1)) THEN
        floor_seq := -1;
    END IF;
    IF EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = 'published_at' AND NOT a.attisdropped) THEN
        unpublished_only := 'AND published_at IS NULL';
    END IF;
    EXECUTE format(
        'SELECT count(*), max(s), min(t) FILTER (WHERE isfinite(t)), max(t) FILTER (WHERE isfinite(t)) '
        'FROM (SELECT %2$I AS s, %3$s::timestamptz AS t FROM %1$s WHERE %2$I > $1 %4$s ORDER BY %2$I DESC LIMIT $2) newest',
        of_outbox, known.seq_column, outbox_relay.time_expression(of_outbox, known.created_at_column), unpublished_only)
    INTO unpublished, last_seq, oldest, newest USING floor_seq, exact_up_to + 1;
    is_exact := unpublished <= exact_up_to;
    IF is_exact THEN
        RETURN;
    END IF;
    EXECUTE format(
        'SELECT %2$I, CASE WHEN isfinite(%3$s::timestamptz) THEN %3$s::timestamptz END '
        'FROM %1$s WHERE %2$I > $1 %4$s ORDER BY %2$I LIMIT 1',
        of_outbox, known.seq_column, outbox_relay.time_expression(of_outbox, known.created_at_column), unpublished_only)
    INTO first_seq, oldest USING floor_seq;
    IF known.gap_from IS NOT NULL AND first_seq < known.gap_from AND last_seq >= known.gap_to THEN
        gap := known.gap_to - known.gap_from;
    END IF;
    span := last_seq - first_seq + 1 - gap;
    step := greatest(1, span / 64);
    width := least(16, step);
    EXECUTE format(
        'SELECT sum(w.n) FROM (SELECT p + CASE WHEN p >= $5 THEN $4 ELSE 0 END AS start '
        '                        FROM generate_series($1, $1 + 63 * $2, $2) p) g CROSS JOIN LATERAL ('
        'SELECT count(*) AS n FROM %1$s WHERE %2$I >= g.start AND %2$I < g.start + $3 %3$s) w',
        of_outbox, known.seq_column, unpublished_only)
    INTO sampled USING first_seq, step, width, gap, coalesce(known.gap_from, 0);
    unpublished := greatest(unpublished, (span::numeric * sampled / (64 * width))::bigint);
END
$function$;

-- SPDX-License-Identifier: Apache-2.0
-- How the outbox is doing, for dashboards and for the daemon, at a cost that does not grow with the backlog.

-- What stood under our names before, to be put back by the down script.
CREATE TABLE outbox_relay.replaced_objects (
    kind       text NOT NULL CHECK (kind IN ('view', 'function')),
    name       text NOT NULL,
    definition text NOT NULL,
    readers    text[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (kind, name)
);

-- Counts the unpublished rows. Up to exact_up_to rows the count and the oldest time are exact, and read from
-- the newest end down to what the relay noted as settled, so that dead rows at the head are not walked. Above
-- that it is an estimate: 64 windows of at most 16 seqs are counted between the first and the last row,
-- leaving out the gap of an adoption.
CREATE FUNCTION outbox_relay.count_unpublished(
    of_outbox regclass, exact_up_to bigint,
    OUT unpublished bigint, OUT is_exact boolean, OUT oldest timestamptz, OUT newest timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
AS $function$
DECLARE
    known outbox_relay.outboxes;
    floor_seq bigint := -1;
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
    floor_seq := coalesce(floor_seq, -1);
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

-- The time column as SQL text; NULL for a table without one, integers being milliseconds since 1970.
CREATE FUNCTION outbox_relay.time_expression(of_outbox regclass, time_name name)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT coalesce((
        SELECT CASE WHEN a.atttypid = 'bigint'::regtype THEN format('to_timestamp(%I / 1000.0)', a.attname)
                    ELSE format('%I', a.attname) END
          FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = time_name AND NOT a.attisdropped), 'NULL')
$function$;

-- Dead letters of an outbox, counted up to 1000; more are returned as 1001.
CREATE FUNCTION outbox_relay.count_dead_letters(of_outbox regclass)
RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
AS $function$
    SELECT count(*) FROM (SELECT 1 FROM public.outbox_dead_letters d WHERE d.outbox = of_outbox::text LIMIT 1001) counted
$function$;

-- One row: OK, WARNING or CRITICAL by the number of unpublished rows (more than the threshold) or by the age of the oldest
-- (NULL = not judged). Held aggregates and parked event types are at least a WARNING, and named.
CREATE FUNCTION outbox_relay.check_outbox_health(
    outbox regclass, warning_rows bigint, critical_rows bigint, warning_age interval, critical_age interval)
RETURNS TABLE (health_status varchar(20), message text, unpublished_count bigint, oldest_age_seconds bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    counted record;
    oldest timestamptz;
    held bigint;
    parked bigint;
    waiting_seq bigint;
    letters bigint;
    level integer := 0;
    why text := '';
BEGIN
    SELECT * INTO counted FROM outbox_relay.count_unpublished(outbox, greatest(warning_rows, critical_rows));
    oldest := counted.oldest;
    SELECT count(*) INTO held FROM outbox_relay.held_aggregates h
      JOIN outbox_relay.outboxes o USING (identity) WHERE o.outbox = $1;
    SELECT count(*) INTO parked FROM outbox_relay.parked_event_types p
      JOIN outbox_relay.outboxes o USING (identity) WHERE o.outbox = $1;
    IF held + parked > 0 THEN
        SELECT least(oldest, min(w.since)) INTO oldest FROM (
            SELECT h.held_at AS since FROM outbox_relay.held_aggregates h
              JOIN outbox_relay.outboxes o USING (identity) WHERE o.outbox = $1
            UNION ALL
            SELECT p.parked_at FROM outbox_relay.parked_event_types p
              JOIN outbox_relay.outboxes o USING (identity) WHERE o.outbox = $1) w;
    END IF;
    unpublished_count := counted.unpublished;
    oldest_age_seconds := coalesce(greatest(0, extract(epoch FROM clock_timestamp() - oldest)), 0)::bigint;

    IF unpublished_count > critical_rows THEN
        level := 2;
        why := format(', more than %s', critical_rows);
    ELSIF unpublished_count > warning_rows THEN
        level := 1;
        why := format(', more than %s', warning_rows);
    END IF;
    IF oldest_age_seconds > extract(epoch FROM critical_age) THEN
        level := 2;
        why := why || format(', the oldest is %s s old, more than %s s', oldest_age_seconds, extract(epoch FROM critical_age)::bigint);
    ELSIF oldest_age_seconds > extract(epoch FROM warning_age) THEN
        level := greatest(level, 1);
        why := why || format(', the oldest is %s s old, more than %s s', oldest_age_seconds, extract(epoch FROM warning_age)::bigint);
    END IF;
    IF held + parked > 0 THEN
        level := greatest(level, 1);
    END IF;

    letters := outbox_relay.count_dead_letters(outbox);
    health_status := (ARRAY['OK', 'WARNING', 'CRITICAL'])[level + 1];
    message := format('%s: %s%s unpublished events%s%s', outbox,
                      CASE WHEN counted.is_exact THEN '' ELSE 'about ' END, unpublished_count,
                      CASE WHEN counted.is_exact THEN '' ELSE ' (estimated from a sample)' END, why);
    IF held > 0 THEN
        message := message || format('; %s aggregates held (their events are not counted)', held);
    END IF;
    IF parked > 0 THEN
        message := message || format('; %s event types parked (their events are not counted)', parked);
    END IF;
    IF letters > 0 THEN
        message := message || format('; %s dead letters', CASE WHEN letters > 1000 THEN 'more than 1000' ELSE letters::text END);
    END IF;
    RETURN NEXT;
END
$function$;

-- The row of view outbox_status. A table below 64 MiB is counted exactly; for a larger one total_events is
-- the planner's figure and newest_event the newest unpublished event.
CREATE FUNCTION outbox_relay.outbox_status(of_outbox regclass)
RETURNS TABLE (total_events bigint, unpublished_events bigint, failed_events bigint,
               oldest_unpublished timestamptz, newest_event timestamptz, oldest_age_seconds bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    counted record;
    planned real;
BEGIN
    SELECT * INTO counted FROM outbox_relay.count_unpublished(of_outbox, 10000);
    unpublished_events := counted.unpublished;
    oldest_unpublished := counted.oldest;
    newest_event := counted.newest;
    oldest_age_seconds := coalesce(greatest(0, extract(epoch FROM clock_timestamp() - counted.oldest)), 0)::bigint;
    failed_events := outbox_relay.count_dead_letters(of_outbox);
    IF pg_relation_size(of_outbox) < 64 * 1024 * 1024 THEN
        EXECUTE format('SELECT count(*), max(%s) FROM %s',
                       outbox_relay.time_expression(of_outbox, (SELECT o.created_at_column FROM outbox_relay.outboxes o
                                                                 WHERE o.outbox = of_outbox)), of_outbox)
           INTO total_events, newest_event;
    ELSE
        SELECT c.reltuples INTO planned FROM pg_class c WHERE c.oid = of_outbox;
        total_events := greatest(planned::bigint, unpublished_events);
    END IF;
    RETURN NEXT;
END
$function$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA outbox_relay FROM PUBLIC;
-- Behind the view; it gives nothing but counts and times.
GRANT EXECUTE ON FUNCTION outbox_relay.outbox_status(regclass) TO PUBLIC;

-- Objects of these names that a project made for itself are kept as text, and put back by the down script.
DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid = to_regclass('public.outbox_status') AND c.relkind = 'v') THEN
        INSERT INTO outbox_relay.replaced_objects (kind, name, definition, readers)
        SELECT 'view', 'public.outbox_status', pg_catalog.pg_get_viewdef(c.oid),
               coalesce((SELECT array_agg(DISTINCT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) END)
                           FROM pg_catalog.aclexplode(c.relacl) x
                          WHERE x.privilege_type = 'SELECT' AND x.grantee <> c.relowner), '{}')
          FROM pg_catalog.pg_class c WHERE c.oid = to_regclass('public.outbox_status');
        DROP VIEW public.outbox_status;
    END IF;
    IF to_regprocedure('public.check_outbox_health()') IS NOT NULL THEN
        INSERT INTO outbox_relay.replaced_objects (kind, name, definition)
        VALUES ('function', 'public.check_outbox_health',
                pg_catalog.pg_get_functiondef(to_regprocedure('public.check_outbox_health()')));
        DROP FUNCTION public.check_outbox_health();
    END IF;
END
$$;

-- For dashboards: more than 100 unpublished events or one older than 5 minutes is a WARNING, more than 1000
-- or older than 15 minutes is CRITICAL. Every role may call it.
CREATE FUNCTION public.check_outbox_health()
RETURNS TABLE (health_status varchar(20), message text, unpublished_count bigint, oldest_age_seconds bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT h.health_status, h.message, h.unpublished_count, h.oldest_age_seconds
      FROM outbox_relay.check_outbox_health('public.outbox_events'::regclass, 100, 1000, '5 minutes', '15 minutes') h
$function$;
COMMENT ON FUNCTION public.check_outbox_health() IS 'state of public.outbox_events in one row; cheap at any backlog';

CREATE VIEW public.outbox_status AS
SELECT s.total_events, s.unpublished_events, s.failed_events, s.oldest_unpublished, s.newest_event, s.oldest_age_seconds
  FROM outbox_relay.outbox_status('public.outbox_events'::regclass) s;
COMMENT ON VIEW public.outbox_status IS 'figures of public.outbox_events; failed_events are its dead letters, up to 1001';

DO $$
DECLARE
    reader text;
BEGIN
    FOR reader IN SELECT unnest(r.readers) FROM outbox_relay.replaced_objects r WHERE r.name = 'public.outbox_status' LOOP
        EXECUTE 'GRANT SELECT ON public.outbox_status TO ' || reader;
    END LOOP;
END
$$;

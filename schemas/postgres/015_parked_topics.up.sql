-- SPDX-License-Identifier: Apache-2.0
-- What waits for an operator is a topic: all its rows wait, and no other row does. Entries of event types were too many where
-- a type has rows for several topics, and too few where several types have rows for one.

-- Nothing is carried over: a relay reads all rows at the start of a term, and parks anew what cannot go. It then clears
-- outbox_relay.parked_event_types, which is the version before this one's: that goes on working until it is replaced.
CREATE TABLE outbox_relay.parked_topics (
    identity    uuid        NOT NULL REFERENCES outbox_relay.outboxes ON UPDATE CASCADE ON DELETE CASCADE,
    topic       text        COLLATE pg_catalog."C" NOT NULL,
    lowest_seq  bigint      NOT NULL,
    reason_code text        NOT NULL,
    reason_text text        NOT NULL,
    parked_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (identity, topic)
);
COMMENT ON TABLE outbox_relay.parked_topics IS 'topics that an operator must mend, with the lowest seq that waits for each';
COMMENT ON TABLE outbox_relay.parked_event_types IS 'of the version before parked_topics';

-- Whoever could park types may park topics: roles.sql need not come in between.
DO $$
DECLARE
    grantee name;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    FOR grantee IN SELECT DISTINCT r.rolname FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
                    WHERE c.oid = 'outbox_relay.parked_event_types'::regclass AND a.privilege_type = 'INSERT' AND a.grantee <> c.relowner LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON outbox_relay.parked_topics TO %I', grantee);
    END LOOP;
END
$$;

-- As in 009, but for parked topics, those of the version before among them.
CREATE OR REPLACE FUNCTION outbox_relay.check_outbox_health(
    outbox regclass, warning_rows bigint, critical_rows bigint, warning_age interval, critical_age interval)
RETURNS TABLE (health_status varchar(20), message text, unpublished_count bigint, oldest_age_seconds bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    counted record;
    oldest timestamptz;
    held bigint;
    parked bigint;
    letters bigint;
    level integer := 0;
    why text := '';
BEGIN
    SELECT * INTO counted FROM outbox_relay.count_unpublished(outbox, greatest(warning_rows, critical_rows));
    oldest := counted.oldest;
    SELECT count(*) INTO held FROM outbox_relay.held_aggregates h
      JOIN outbox_relay.outboxes o USING (identity) WHERE o.outbox = $1;
    SELECT count(DISTINCT p.topic) INTO parked FROM (
        SELECT t.identity, t.topic FROM outbox_relay.parked_topics t
        UNION ALL
        SELECT e.identity, e.topic FROM outbox_relay.parked_event_types e) p
      JOIN outbox_relay.outboxes o USING (identity) WHERE o.outbox = $1;
    IF held + parked > 0 THEN
        SELECT least(oldest, min(w.since)) INTO oldest FROM (
            SELECT h.held_at AS since FROM outbox_relay.held_aggregates h
              JOIN outbox_relay.outboxes o USING (identity) WHERE o.outbox = $1
            UNION ALL
            SELECT p.parked_at FROM outbox_relay.parked_topics p
              JOIN outbox_relay.outboxes o USING (identity) WHERE o.outbox = $1
            UNION ALL
            SELECT e.parked_at FROM outbox_relay.parked_event_types e
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
        message := message || format('; %s topics parked (their events are not counted)', parked);
    END IF;
    IF letters > 0 THEN
        message := message || format('; %s dead letters', CASE WHEN letters > 1000 THEN 'more than 1000' ELSE letters::text END);
    END IF;
    RETURN NEXT;
END
$function$;

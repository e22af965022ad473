-- SPDX-License-Identifier: Apache-2.0
-- The health function as it was before.

-- As in 015.
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

DROP FUNCTION IF EXISTS outbox_relay.numbers_gone_back(regclass);

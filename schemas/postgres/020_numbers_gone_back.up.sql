-- SPDX-License-Identifier: Apache-2.0
-- Numbers that went back are told. 010 only let them be counted: events go on under numbers that were used before, and whoever
-- takes the number for a version (ReplacingMergeTree, consumers that drop what they have seen) keeps the old state.

-- Where the sequence of an outbox is below what was published of it: both, and the sequence. NULL: it is not, or cannot be asked.
-- Logical replication carries no sequence along, nor does a dump of the data alone; TRUNCATE ... RESTART IDENTITY begins anew.
CREATE FUNCTION outbox_relay.numbers_gone_back(
    of_outbox regclass, OUT settled_seq bigint, OUT last_seq bigint, OUT numbers text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    SELECT p.settled_seq, pg_get_serial_sequence(of_outbox::text, o.seq_column) INTO settled_seq, numbers
      FROM outbox_relay.outboxes o JOIN outbox_relay.progress p USING (identity) WHERE o.outbox = of_outbox;
    -- Its row, since pg_sequence_last_value() is NULL until a number is drawn: an adopted table's sequence starts high.
    IF numbers IS NOT NULL AND has_sequence_privilege(numbers, 'SELECT') THEN
        EXECUTE format('SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM %s', numbers) INTO last_seq;
    END IF;
    IF last_seq IS NULL OR last_seq >= settled_seq THEN
        settled_seq := NULL;
        last_seq := NULL;
        numbers := NULL;
    END IF;
END
$function$;
-- It gives nothing but numbers, to those who may use the schema; `check` calls it before roles.sql has run again.
GRANT EXECUTE ON FUNCTION outbox_relay.numbers_gone_back(regclass) TO PUBLIC;

-- As in 015, but numbers that went back are at least a WARNING, and named.
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
    back record;
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
    SELECT * INTO back FROM outbox_relay.numbers_gone_back(outbox);
    IF held + parked > 0 OR back.numbers IS NOT NULL THEN
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
    IF back.numbers IS NOT NULL THEN
        message := message || format('; numbers have gone back to %s, though those up to %s are published: SELECT setval(%L, %s)',
                                     back.last_seq, back.settled_seq, back.numbers, back.settled_seq + 1000);
    END IF;
    RETURN NEXT;
END
$function$;

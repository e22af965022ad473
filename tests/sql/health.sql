-- SPDX-License-Identifier: Apache-2.0
CREATE FUNCTION pg_temp.fill(n bigint, age interval DEFAULT '0') RETURNS void LANGUAGE sql AS
$$ INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, created_at)
   SELECT 'post', gen_random_uuid(), 'post.created', '{}', now() - age FROM generate_series(1, n) $$;
CREATE VIEW pg_temp.types AS SELECT * FROM check_outbox_health();
SELECT test.same(string_agg(format_type(a.atttypid, NULL), ',' ORDER BY a.attnum), 'character varying,text,bigint,bigint', 'types of check_outbox_health()')
  FROM pg_attribute a WHERE a.attrelid = 'pg_temp.types'::regclass;
SELECT test.same(pg_get_function_result('public.check_outbox_health()'::regprocedure),
    'TABLE(health_status character varying, message text, unpublished_count bigint, oldest_age_seconds bigint)', 'result of check_outbox_health()');
SELECT test.same(health_status || '/' || unpublished_count || '/' || oldest_age_seconds, 'OK/0/0', 'an empty outbox is OK') FROM check_outbox_health();
SELECT pg_temp.fill(100);
SELECT test.same(health_status || unpublished_count, 'OK100', '100 unpublished are OK') FROM check_outbox_health();
SELECT pg_temp.fill(1);
SELECT test.same(health_status || unpublished_count, 'WARNING101', '101 are a WARNING') FROM check_outbox_health();
SELECT pg_temp.fill(899);
SELECT test.same(health_status || unpublished_count, 'WARNING1000', '1000 are a WARNING, counted exactly') FROM check_outbox_health();
SELECT pg_temp.fill(1);
SELECT test.ok(health_status = 'CRITICAL' AND message LIKE '%about % (estimated from a sample)%', '1001 are CRITICAL, and said to be estimated') FROM check_outbox_health();
SELECT test.ok(unpublished_count BETWEEN 1001 AND 1002, 'the estimate of 1001 without gaps is close') FROM check_outbox_health();
UPDATE public.outbox_events SET published_at = now() WHERE seq > 50;
SELECT test.same(health_status || unpublished_count, 'OK50', 'marked rows do not count') FROM check_outbox_health();
SELECT test.same(format('%s/%s/%s', total_events, unpublished_events, failed_events), '1001/50/0', 'outbox_status') FROM outbox_status;
DELETE FROM public.outbox_events;
SELECT pg_temp.fill(1, '6 minutes');
SELECT test.ok(health_status = 'WARNING' AND oldest_age_seconds BETWEEN 360 AND 400, 'an old event is a WARNING') FROM check_outbox_health();
SELECT pg_temp.fill(1, '16 minutes');
SELECT test.ok(health_status = 'CRITICAL', 'an older one is CRITICAL') FROM check_outbox_health();
SELECT test.same(health_status::text, 'OK', 'ages are judged only if asked') FROM outbox_relay.check_outbox_health('public.outbox_events', 100, 1000, NULL, NULL);
DELETE FROM public.outbox_events;
INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, created_at)
SELECT 'a', gen_random_uuid(), 'a.b', '{}', t::timestamptz FROM unnest(ARRAY['infinity', '-infinity', '0001-01-01 00:00:00+00', '9999-12-31']) t;
SELECT test.ok(unpublished_count = 4 AND oldest_age_seconds > 60000000000, 'created_at of infinity and of year 1') FROM check_outbox_health();
DELETE FROM public.outbox_events;
INSERT INTO outbox_relay.held_aggregates SELECT identity, 'a', 'b', 1, 'TOO_LARGE', 'text', now() - interval '1 hour' FROM outbox_relay.outboxes;
SELECT test.ok(health_status = 'CRITICAL' AND message LIKE '%1 aggregates held%' AND oldest_age_seconds >= 3600, 'a held aggregate shows, with its age') FROM check_outbox_health();
SELECT test.same(health_status::text, 'WARNING', 'and is at least a WARNING') FROM outbox_relay.check_outbox_health('public.outbox_events', 100, 1000, NULL, NULL);
DELETE FROM outbox_relay.held_aggregates;
INSERT INTO outbox_relay.parked_topics SELECT identity, 'shop.late.events', 1, 'UNKNOWN_TOPIC_OR_PART', 'text', now() - interval '1 hour' FROM outbox_relay.outboxes;
SELECT test.ok(health_status = 'CRITICAL' AND message LIKE '%1 topics parked%' AND oldest_age_seconds >= 3600, 'a parked topic shows, with its age') FROM check_outbox_health();
INSERT INTO outbox_relay.parked_event_types SELECT identity, type, topic, 1, 'UNKNOWN_TOPIC_OR_PART', 'text', now() - interval '2 hours' FROM outbox_relay.outboxes,
    (VALUES ('late.added', 'shop.late.events'), ('later.added', 'shop.later.events')) v (type, topic);
SELECT test.ok(message LIKE '%2 topics parked%' AND oldest_age_seconds >= 7200, 'what the version before has parked shows, too, each topic once') FROM check_outbox_health();
DELETE FROM outbox_relay.parked_event_types;
DELETE FROM outbox_relay.parked_topics;
SELECT test.fails($$SELECT * FROM outbox_relay.check_outbox_health('pg_class', 1, 2, NULL, NULL)$$, '42704', 'only outboxes are judged');

-- A backlog of :rows, with a gap as large before its second half.
SELECT pg_temp.fill(:rows / 2);
SELECT setval(pg_get_serial_sequence('public.outbox_events', 'seq'), (SELECT max(seq) FROM public.outbox_events) + :rows / 2);
SELECT pg_temp.fill(:rows / 2);
VACUUM ANALYZE public.outbox_events;
SELECT test.ok(health_status = 'CRITICAL' AND unpublished_count BETWEEN :rows * 0.9 AND :rows * 1.1, format('the estimate is within a tenth: %s of %s', unpublished_count, :rows)) FROM check_outbox_health();
SELECT test.ok(n < 3000, format('the health of a large backlog touches few buffers: %s', n)) FROM test.buffers('SELECT * FROM check_outbox_health()') n;
SELECT test.ok(n < 6000, format('outbox_status too: %s', n)) FROM test.buffers('SELECT * FROM outbox_status') n;
-- All published but ten, and every one of the dead rows still in the index.
ALTER TABLE public.outbox_events SET (autovacuum_enabled = false);
BEGIN;
DELETE FROM public.outbox_events WHERE seq < (SELECT max(seq) - 9 FROM public.outbox_events);
SELECT outbox_relay.note_progress(identity, (SELECT min(seq) - 1 FROM public.outbox_events)) FROM outbox_relay.outboxes;
SELECT test.same(unpublished_count, 10::bigint, 'ten are left') FROM check_outbox_health();
SELECT test.ok(n < 500, format('dead rows below what is settled are not walked: %s buffers', n)) FROM test.buffers('SELECT * FROM check_outbox_health()') n;
ROLLBACK;
-- Numbers that began anew lie below what was settled, and are counted all the same.
SELECT outbox_relay.note_progress(identity, 100000000) FROM outbox_relay.outboxes;
TRUNCATE public.outbox_events RESTART IDENTITY;
SELECT test.same(health_status || unpublished_count, 'WARNING0', 'an outbox that begins anew is empty, and not well') FROM check_outbox_health();
SELECT test.ok(message LIKE '%gone back to 0, though those up to 100000000 are published: SELECT setval(''public.outbox_events_seq_seq'', 100001000)', format('it is told: %s', message))
  FROM check_outbox_health();
SELECT pg_temp.fill(2000, '1 day');
SELECT test.ok(health_status = 'CRITICAL' AND unpublished_count > 1000 AND oldest_age_seconds >= 86400, 'events whose numbers began anew are counted') FROM check_outbox_health();
SELECT setval('public.outbox_events_seq_seq', 100001000);
TRUNCATE public.outbox_events;
SELECT test.same(health_status || unpublished_count, 'OK0', 'numbers that are above all again are no warning') FROM check_outbox_health();
SELECT setval('public.outbox_events_seq_seq', 100000001, false);
SELECT test.same(health_status || unpublished_count, 'OK0', 'nor is a next number that was not drawn yet') FROM check_outbox_health();
SELECT setval('public.outbox_events_seq_seq', 100000000, false);
SELECT test.ok(message LIKE '%gone back to 99999999, though%', format('unless it was published: %s', message)) FROM check_outbox_health();

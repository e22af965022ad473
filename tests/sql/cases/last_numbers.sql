-- SPDX-License-Identifier: Apache-2.0
-- Numbers near the end of bigint.
\set columns '(aggregate_type, aggregate_id, event_type, payload)'
\set one 'SELECT ''a'', gen_random_uuid(), ''a.b'', ''{}'''
CREATE SCHEMA x;
-- Ids of 63 bits, as snowflakes are.
ALTER TABLE public.outbox_events ALTER COLUMN seq RESTART WITH 4700000000000000000;
INSERT INTO public.outbox_events :columns :one;
SELECT test.ok(outbox_relay.create_outbox('x.first') IS NOT NULL, 'beside an outbox with large numbers one can be made');
INSERT INTO x.first :columns :one;
SELECT test.ok(min(seq) BETWEEN 6900000000000000000 AND 7000000000000000000, format('with half of what is left above it: %s', min(seq))) FROM x.first;
SELECT outbox_relay.create_outbox(format('x.tenant_%s', n)) FROM generate_series(1, 40) n;
INSERT INTO x.tenant_40 :columns :one;
SELECT test.ok(min(seq) BETWEEN 6900000000000000000 AND 7000000000000000000, format('many take little of it: %s', min(seq))) FROM x.tenant_40;
ALTER TABLE public.outbox_events ALTER COLUMN seq RESTART WITH 9223372036854775800;
INSERT INTO public.outbox_events :columns :one;
SELECT test.fails($$SELECT outbox_relay.create_outbox('x.none')$$, '2200H', 'above the last numbers there are none');
DO $$ BEGIN PERFORM outbox_relay.create_outbox('x.none'); EXCEPTION WHEN OTHERS THEN PERFORM set_config('test.said', SQLERRM, false); END $$;
SELECT test.same(current_setting('test.said'), 'no number is left above those of public.outbox_events_seq_seq', 'and whose they are is said');
-- Numbers that have gone back from there.
SELECT outbox_relay.note_progress(identity, 9223372036854775800) FROM outbox_relay.outboxes WHERE outbox = 'public.outbox_events'::regclass;
ALTER TABLE public.outbox_events ALTER COLUMN seq RESTART WITH 5;
SELECT test.ok(message LIKE '%numbers have gone back to 4, though those up to 9223372036854775800 are published: no number is left above it', format('health says so: %s', message))
  FROM public.check_outbox_health();
SELECT outbox_relay.note_progress(identity, 9223372036854774000) FROM outbox_relay.outboxes WHERE outbox = 'x.first'::regclass;
ALTER TABLE x.first ALTER COLUMN seq RESTART WITH 5;
SELECT test.ok(message LIKE '%SELECT setval(''x.first_seq_seq'', 9223372036854775000)', format('below that there are some: %s', message))
  FROM outbox_relay.check_outbox_health('x.first', 1, 2, NULL, NULL);
-- The first ones.
CREATE TABLE x.negative (seq bigint GENERATED ALWAYS AS IDENTITY (MINVALUE -1000 START WITH -1000) UNIQUE, created_at timestamptz DEFAULT now());
SELECT outbox_relay.attach_outbox('x.negative') IS NULL AS none \gset
INSERT INTO x.negative SELECT FROM generate_series(1, 3);
SELECT test.same(unpublished_count, 3::bigint, 'numbers below 0 are counted') FROM outbox_relay.check_outbox_health('x.negative', 1, 2, NULL, NULL);
SELECT outbox_relay.note_progress(identity, -999) FROM outbox_relay.outboxes WHERE outbox = 'x.negative'::regclass;
SELECT test.same(unpublished_count, 1::bigint, 'from where they are settled') FROM outbox_relay.check_outbox_health('x.negative', 1, 2, NULL, NULL);
CREATE TABLE x.wide (seq bigint GENERATED ALWAYS AS IDENTITY (MINVALUE -9223372036854775808) UNIQUE, created_at timestamptz DEFAULT now());
SELECT outbox_relay.attach_outbox('x.wide') IS NULL AS none \gset
INSERT INTO x.wide OVERRIDING SYSTEM VALUE SELECT n FROM unnest(ARRAY[-9223372036854775807, -9223372036854775806, -5, 7, 9223372036854775806]::bigint[]) n;
SELECT test.same(unpublished_count, 5::bigint, 'as they are, up to the last ones') FROM outbox_relay.check_outbox_health('x.wide', 10, 20, NULL, NULL);
SELECT test.ok(unpublished_count > 2, 'and estimated') FROM outbox_relay.check_outbox_health('x.wide', 1, 2, NULL, NULL);

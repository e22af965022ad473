-- SPDX-License-Identifier: Apache-2.0
SELECT test.same(string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END, ', ' ORDER BY a.attnum),
    'id uuid not null, aggregate_type character varying(255) not null, aggregate_id uuid not null, event_type character varying(255) not null, '
    'payload jsonb not null, metadata jsonb, created_at timestamp with time zone not null, published_at timestamp with time zone, '
    'retry_count integer not null, last_error text, seq bigint not null', 'columns of outbox_events')
  FROM pg_attribute a WHERE a.attrelid = 'public.outbox_events'::regclass AND a.attnum > 0;
SELECT test.same(attidentity::text, 'a', 'seq is GENERATED ALWAYS') FROM pg_attribute WHERE attrelid = 'public.outbox_events'::regclass AND attname = 'seq';
SELECT test.fails('INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, seq) VALUES (''a'', gen_random_uuid(), ''a.b'', ''{}'', 1)',
                  '428C9', 'nobody chooses a seq');
SELECT test.fails('INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, retry_count) VALUES (''a'', gen_random_uuid(), ''a.b'', ''{}'', -1)',
                  '23514', 'retry_count is not negative');
SELECT test.fails('INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, published_at) VALUES (''a'', gen_random_uuid(), ''a.b'', ''{}'', ''2000-01-01'')',
                  '23514', 'published_at is not before created_at');
SELECT test.ok(reloptions @> ARRAY['autovacuum_vacuum_scale_factor=0', 'vacuum_truncate=false', 'autovacuum_vacuum_cost_delay=0'], 'storage settings of a queue')
  FROM pg_class WHERE oid = 'public.outbox_events'::regclass;
-- Held aggregates are found by their bytes, whatever becomes of the collation; and by the version before, which says nothing of it.
BEGIN;
INSERT INTO outbox_relay.held_aggregates SELECT identity, 'a', n::text, n, 'x', 'y' FROM outbox_relay.outboxes, generate_series(1, 1000) n;
ANALYZE outbox_relay.held_aggregates;
CREATE COLLATION public.own (provider = libc, locale = 'C');
CREATE TABLE public.collated (type text COLLATE public.own, id text COLLATE public.own);
INSERT INTO public.collated VALUES ('a', '7');
ANALYZE public.collated, outbox_relay.outboxes;
CREATE FUNCTION test.held(collated text) RETURNS text LANGUAGE sql AS
$$ SELECT format('SELECT h.lowest_seq FROM public.collated t, outbox_relay.outboxes o, outbox_relay.held_aggregates h WHERE h.identity = o.identity '
                 'AND h.aggregate_type = coalesce(t.type, '''')%1$s AND h.aggregate_id = coalesce(t.id, '''')%1$s', collated) $$;
CREATE FUNCTION test.first(command text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE f text; BEGIN EXECUTE command INTO f; RETURN f; END $$;
SELECT test.ok(test.first('EXPLAIN (FORMAT JSON) ' || test.held(' COLLATE pg_catalog."C"')) ~ 'held_aggregates_by_bytes.*Index Cond.*aggregate_type.*aggregate_id',
               'a held aggregate is found by an index of its bytes');
SELECT test.same(test.first(test.held(' COLLATE pg_catalog."C"')), '7', 'which has it');
SELECT test.same(test.first(test.held('')), '7', 'the version before finds it, too');
INSERT INTO outbox_relay.held_aggregates AS p SELECT identity, t.type, t.id, 3, 'x', 'y' FROM outbox_relay.outboxes, public.collated t
    ON CONFLICT (identity, aggregate_type, aggregate_id) DO UPDATE SET lowest_seq = excluded.lowest_seq;
SELECT test.same(test.first(test.held('')), '3', 'and holds it');
ROLLBACK;
CREATE SCHEMA "Bill ing";
SELECT test.ok(outbox_relay.create_outbox('"Bill ing"."Out""box"') IS NOT NULL, 'a further outbox with an awkward name');
SELECT test.fails($$SELECT outbox_relay.create_outbox('"Bill ing"."Out""box"')$$, '42P07', 'an existing table is not taken over');
SELECT test.fails($$SELECT outbox_relay.create_outbox('a.b.c')$$, '42602', 'a name of three parts is refused');
INSERT INTO "Bill ing"."Out""box" (aggregate_type, aggregate_id, event_type, payload) SELECT 'a', gen_random_uuid(), 'a.b', '{}' FROM generate_series(1, 3);
SELECT test.same(health_status || unpublished_count, 'OK3', 'health of a further outbox')
  FROM outbox_relay.check_outbox_health('"Bill ing"."Out""box"', 100, 1000, NULL, NULL);
CREATE TABLE public.debezium_outbox (id uuid PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload jsonb,
    "at" bigint, position bigint GENERATED ALWAYS AS IDENTITY);
SELECT test.fails($$SELECT outbox_relay.attach_outbox('public.debezium_outbox', 'position', 'at')$$, '55000', 'attach wants a unique index on the seq column');
CREATE UNIQUE INDEX ON public.debezium_outbox (position);
SELECT test.ok(outbox_relay.attach_outbox('public.debezium_outbox', 'position', 'at') IS NOT NULL, 'a table of another form is attached');
SELECT test.same(outbox_relay.attach_outbox('public.debezium_outbox', 'position', 'at'),
                 (SELECT identity FROM outbox_relay.outboxes WHERE outbox = 'public.debezium_outbox'::regclass), 'attaching twice keeps the identity');
INSERT INTO public.debezium_outbox VALUES (gen_random_uuid(), 'order', '7', 'order.paid', '{}', (extract(epoch FROM now()) * 1000)::bigint - 60000);
SELECT test.ok(unpublished_count = 1 AND oldest_age_seconds BETWEEN 60 AND 100, 'its age comes from milliseconds')
  FROM outbox_relay.check_outbox_health('public.debezium_outbox', 100, 1000, NULL, NULL);
CREATE DOMAIN public.milliseconds AS bigint;
ALTER TABLE public.debezium_outbox ALTER COLUMN "at" TYPE public.milliseconds;
INSERT INTO public.debezium_outbox VALUES (gen_random_uuid(), 'order', '7', 'order.paid', '{}', (extract(epoch FROM now()) * 1000000000)::bigint);
SELECT test.ok(unpublished_count = 2 AND oldest_age_seconds >= 60, 'of a domain too, and nanoseconds by mistake are no time')
  FROM outbox_relay.check_outbox_health('public.debezium_outbox', 100, 1000, NULL, NULL);
CREATE TABLE public.cached_outbox (seq bigint GENERATED ALWAYS AS IDENTITY (CACHE 10) PRIMARY KEY);
SELECT test.fails($$SELECT outbox_relay.attach_outbox('public.cached_outbox')$$, '55000', 'a cached sequence is refused');
SELECT test.same((SELECT count(DISTINCT identity) FROM outbox_relay.outboxes), 3::bigint, 'each outbox has an identity of its own');
SELECT identity AS old FROM outbox_relay.outboxes WHERE outbox = 'public.outbox_events'::regclass \gset
SELECT outbox_relay.accept_system('public.outbox_events');
SELECT test.fails($$SELECT outbox_relay.accept_system('pg_class')$$, '42704', 'the system of a table that is no outbox is not accepted');
INSERT INTO outbox_relay.held_aggregates VALUES (:'old', 'a', 'b', 1, 'x', 'y');
SELECT outbox_relay.renew_identity('public.outbox_events') AS new \gset
SELECT test.ok(:'new' <> :'old' AND EXISTS (SELECT 1 FROM outbox_relay.held_aggregates WHERE identity = :'new'), 'a renewed identity keeps what is held');
DELETE FROM outbox_relay.held_aggregates;

-- Dead letters.
INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, metadata)
VALUES ('post', '00000000-0000-0000-0000-000000000007', 'post.created', '{"n": 12345678901234567890.123456789}', '{"k": 1}') RETURNING seq, id \gset
SELECT outbox_relay.dead_letter('public.outbox_events', :seq, 'TOO_LARGE', 'the broker takes 1 MB', 3) AS letter \gset
SELECT test.ok(NOT EXISTS (SELECT 1 FROM public.outbox_events WHERE seq = :seq), 'a dead letter has left the outbox');
SELECT test.ok(event_id = :'id' AND aggregate_id = '00000000-0000-0000-0000-000000000007' AND event_type = 'post.created' AND attempts = 3 AND seq = :seq
               AND reason_code = 'TOO_LARGE' AND outbox = 'public.outbox_events' AND event_created_at IS NOT NULL, 'it carries its row and reason')
  FROM public.outbox_dead_letters WHERE dead_letter_id = :letter;
SELECT test.same(outbox_relay.dead_letter('public.outbox_events', :seq, 'x', 'x', 1), NULL, 'a row that is gone makes no dead letter');
SELECT test.ok(message LIKE '%1 dead letters%', 'health names dead letters') FROM check_outbox_health();
SELECT test.same(failed_events, 1::bigint, 'outbox_status counts them') FROM outbox_status;
SELECT outbox_relay.retry_dead_letter(:letter) AS new_seq \gset
SELECT test.ok(:new_seq > :seq, 'retry draws a new seq');
SELECT test.ok(id = :'id' AND payload->>'n' = '12345678901234567890.123456789' AND metadata = '{"k": 1}' AND published_at IS NULL, 'retry keeps id and payload')
  FROM public.outbox_events WHERE seq = :new_seq;
SELECT test.same(outbox_relay.retry_dead_letter(:letter), NULL, 'a dead letter is retried once');
INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload)
VALUES ('post', '00000000-0000-0000-0000-000000000007', 'post.deleted', 'null') RETURNING seq \gset
SELECT outbox_relay.retry_dead_letter(outbox_relay.dead_letter('public.outbox_events', :seq, 'no_key', 'x', 1)) AS new_seq \gset
SELECT test.ok(payload = 'null' AND metadata IS NULL, 'retry gives a null of jsonb back') FROM public.outbox_events WHERE seq = :new_seq;
DELETE FROM public.outbox_events WHERE seq = :new_seq;
-- Whatever is in a row, it can become a dead letter: otherwise the relay could not go past it.
CREATE TABLE public.odd_outbox (event_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text, type text, at bigint, payload json, note text, r text);
INSERT INTO outbox_relay.outboxes (outbox, system_identifier, seq_column, created_at_column) VALUES ('public.odd_outbox', 1, 'event_no', 'at');
INSERT INTO public.odd_outbox (type, at, payload, note, r) VALUES (NULL, 1700000000000, '{"a": "\u0000", "n": 1e400000, "n": 2}', 'n', 'column r') RETURNING event_no AS odd \gset
SELECT outbox_relay.dead_letter('public.odd_outbox', :odd, 'bad_topic', 'why', 1) AS letter \gset
SELECT test.ok(event_id = :'odd' AND event_created_at IS NULL AND event->>'payload' = '{"a": "\u0000", "n": 1e400000, "n": 2}' AND event->>'note' = 'n'
               AND event->>'at' = '1700000000000', 'a row without an id, with a time of another type and with json that jsonb cannot hold')
  FROM public.outbox_dead_letters WHERE dead_letter_id = :letter;
SELECT outbox_relay.retry_dead_letter(:letter) IS NULL AS none \gset
SELECT test.ok(payload::text = '{"a": "\u0000", "n": 1e400000, "n": 2}' AND note = 'n' AND at = 1700000000000, 'retry gives such json back as it was') FROM public.odd_outbox;
INSERT INTO public.odd_outbox (id, type, payload) SELECT t, t, '{"b":1,   "a":2, "a":3, "n":1e2}' FROM (SELECT string_agg(md5(n::text), '') AS t FROM generate_series(1, 400) n) x RETURNING event_no AS odd \gset
SELECT outbox_relay.dead_letter('public.odd_outbox', :odd, 'bad_topic', 'why', 1) AS letter \gset
SELECT test.ok(length(event_id) = 500 AND length(event_type) = 500 AND length(event->>'id') = 12800 AND event->>'payload' = '{"b":1,   "a":2, "a":3, "n":1e2}',
               'texts too long for an index are cut, and whole in the event')
  FROM public.outbox_dead_letters WHERE dead_letter_id = :letter;
SELECT outbox_relay.retry_dead_letter(:letter) AS new_seq \gset
SELECT test.same(payload::text, '{"b":1,   "a":2, "a":3, "n":1e2}', 'json comes back as it was') FROM public.odd_outbox WHERE event_no = :new_seq;
DELETE FROM public.odd_outbox;
-- Nested deeper than the stack allows: what is left of it is less where the row is moved than where it was inserted.
INSERT INTO public.odd_outbox (id, type, at, payload) VALUES ('deep', 'a.b', 7, (repeat('[', 3000) || repeat(']', 3000))::json) RETURNING event_no AS odd \gset
SET max_stack_depth = '200kB';
SELECT test.fails('SELECT to_jsonb(payload) FROM public.odd_outbox', '54001', 'jsonb does not nest so deep');
SELECT outbox_relay.dead_letter('public.odd_outbox', :odd, 'bad_topic', 'why', 1) AS letter \gset
SELECT test.ok(event_id = 'deep' AND length(event->>'payload') = 6000, 'json nested too deep for jsonb is kept as text') FROM public.outbox_dead_letters WHERE dead_letter_id = :letter;
RESET max_stack_depth;
SELECT outbox_relay.retry_dead_letter(:letter) IS NULL AS none \gset
SELECT test.ok(length(payload::text) = 6000 AND id = 'deep' AND at = 7, 'and given back') FROM public.odd_outbox;
DELETE FROM public.odd_outbox;
INSERT INTO public.odd_outbox (id, type, payload, note) VALUES ('large', 'a.b', '{"a": 1}', repeat('x', 270000000)) RETURNING event_no AS odd \gset
SELECT outbox_relay.dead_letter('public.odd_outbox', :odd, 'bad_topic', 'why', 1) AS letter \gset
SELECT test.ok(event_id = 'large' AND event->>'payload' = '{"a": 1}' AND length(event->>'note') = 65536 AND event->'outbox_relay.cut' = '{"note": 270000000}', 'of a value too large for jsonb the beginning is kept, and its length')
  FROM public.outbox_dead_letters WHERE dead_letter_id = :letter;
SELECT test.fails(format('SELECT outbox_relay.retry_dead_letter(%s)', :letter), '55000', 'what was cut is not published');
DELETE FROM public.outbox_dead_letters WHERE dead_letter_id = :letter;
-- An event all of whose columns were kept as texts.
ALTER TABLE public.odd_outbox ALTER COLUMN payload TYPE jsonb, ADD COLUMN t text, ADD COLUMN tags text[], ADD COLUMN yes boolean;
INSERT INTO public.odd_outbox (id, type, payload, t, tags, yes) VALUES (repeat('x', 270000000), 'a.b', '{"a": 1}', 'time', '{a,"b c"}', true) RETURNING event_no AS odd \gset
SELECT outbox_relay.dead_letter('public.odd_outbox', :odd, 'bad_topic', 'why', 1) AS letter \gset
SELECT test.same(length(event_id), 500, 'an id too large') FROM public.outbox_dead_letters WHERE dead_letter_id = :letter;
UPDATE public.outbox_dead_letters SET event = event - 'outbox_relay.cut' || '{"id": "t"}' WHERE dead_letter_id = :letter;
SELECT outbox_relay.retry_dead_letter(:letter) IS NULL AS none \gset
SELECT test.ok(payload = '{"a": 1}' AND t = 'time' AND tags = '{a,"b c"}' AND yes AND note IS NULL AND at IS NULL, 'columns kept as texts go back as what they were') FROM public.odd_outbox;
SELECT outbox_relay.dead_letter('public.odd_outbox', event_no, 'bad_topic', 'why', 1) AS letter FROM public.odd_outbox \gset
SELECT test.ok(event->>'id' = 't' AND event->>'t' = 'time' AND event->'tags' = '["a", "b c"]', 'a column named t is a column like others') FROM public.outbox_dead_letters WHERE dead_letter_id = :letter;
DELETE FROM public.outbox_dead_letters WHERE dead_letter_id = :letter;
DELETE FROM outbox_relay.outboxes WHERE outbox = 'public.odd_outbox'::regclass;
DROP TABLE public.odd_outbox;
-- Keys that are identities come back as they were; the number is drawn anew.
CREATE TABLE public.keyed_outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    line integer GENERATED BY DEFAULT AS IDENTITY, payload json, created_at timestamp DEFAULT now());
SELECT outbox_relay.attach_outbox('public.keyed_outbox') IS NULL AS none \gset
INSERT INTO public.keyed_outbox (payload) VALUES ('{"b":1,  "b":2}');
UPDATE public.keyed_outbox SET seq = DEFAULT;
SELECT outbox_relay.dead_letter('public.keyed_outbox', seq, 'bad_topic', 'why', 1) AS letter FROM public.keyed_outbox \gset
SELECT outbox_relay.retry_dead_letter(:letter) AS new_seq \gset
SELECT test.same(string_agg(concat_ws(' ', id, seq, line, payload), ', '), '1 3 1 {"b":1,  "b":2}', 'an event whose id is an identity is retried')
  FROM public.keyed_outbox;
-- A time without a zone is UTC, whoever asks.
SET TimeZone = 'Asia/Tokyo';
UPDATE public.keyed_outbox SET created_at = now() AT TIME ZONE 'UTC' - interval '1 hour';
SELECT test.ok(oldest_age_seconds BETWEEN 3600 AND 3700, format('the age of a timestamp: %s', oldest_age_seconds))
  FROM outbox_relay.check_outbox_health('public.keyed_outbox', 100, 1000, NULL, NULL);
SELECT test.ok(newest_event BETWEEN now() - interval '62 minutes' AND now() - interval '58 minutes', format('outbox_status reads it alike: %s', newest_event))
  FROM outbox_relay.outbox_status('public.keyed_outbox');
RESET TimeZone;
-- A renamed table: its dead letters follow by hand.
SELECT outbox_relay.dead_letter('public.keyed_outbox', seq, 'bad_topic', 'why', 1) AS letter FROM public.keyed_outbox \gset
ALTER TABLE public.keyed_outbox RENAME TO renamed_outbox;
SELECT test.fails(format('SELECT outbox_relay.retry_dead_letter(%s)', :letter), '42704', 'a dead letter keeps the name that its table had');
UPDATE public.outbox_dead_letters SET outbox = 'public.renamed_outbox' WHERE outbox = 'public.keyed_outbox';
SELECT test.ok(outbox_relay.retry_dead_letter(:letter) > 0, 'told the new one it is retried');
-- What is partitioned by its number can be an outbox. It is not counted in full when its partitions are large.
CREATE TABLE public.parts_outbox (seq bigint GENERATED ALWAYS AS IDENTITY, payload text, created_at timestamptz DEFAULT now(), published_at timestamptz)
    PARTITION BY RANGE (seq);
CREATE UNIQUE INDEX ON public.parts_outbox (seq) WHERE published_at IS NULL;
CREATE TABLE public.parts_1 PARTITION OF public.parts_outbox FOR VALUES FROM (MINVALUE) TO (4000) WITH (autovacuum_enabled = false);
CREATE TABLE public.parts_2 PARTITION OF public.parts_outbox FOR VALUES FROM (4000) TO (MAXVALUE) WITH (autovacuum_enabled = false);
ALTER TABLE public.parts_1 ALTER COLUMN payload SET STORAGE PLAIN;
ALTER TABLE public.parts_2 ALTER COLUMN payload SET STORAGE PLAIN;
SELECT outbox_relay.attach_outbox('public.parts_outbox') IS NULL AS none \gset
INSERT INTO public.parts_outbox (payload) SELECT repeat('x', 7000) FROM generate_series(1, 10);
SELECT test.same(total_events || '/' || unpublished_events, '10/10', 'a partitioned outbox is counted') FROM outbox_relay.outbox_status('public.parts_outbox');
INSERT INTO public.parts_outbox (payload, published_at) SELECT repeat('x', 7000), now() FROM generate_series(1, 8300);
ANALYZE public.parts_1, public.parts_2;
DELETE FROM public.parts_outbox WHERE seq > 100;
SELECT test.ok(total_events > 8000, format('not in full, if its partitions are large: %s', total_events)) FROM outbox_relay.outbox_status('public.parts_outbox');
DROP TABLE public.parts_outbox;

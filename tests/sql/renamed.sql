-- SPDX-License-Identifier: Apache-2.0
-- Columns of an outbox that are renamed or dropped, and dates that are no times.
\set events '(aggregate_type, aggregate_id, event_type, payload) SELECT ''a'', gen_random_uuid(), ''a.b'', ''{}'''
SELECT outbox_relay.create_outbox('public.renamed') AS identity \gset
SELECT test.ok(marks, 'that a table marks is known of one that is made') FROM outbox_relay.outboxes WHERE outbox = 'public.renamed'::regclass;
INSERT INTO public.renamed :events;
UPDATE public.renamed SET created_at = now() - interval '1 hour';

-- The time.
ALTER TABLE public.renamed RENAME created_at TO occurred_at;
SELECT test.same(health_status::text, 'OK', 'by the old name there are no ages')
  FROM outbox_relay.check_outbox_health('public.renamed', 100, 1000, '5 minutes', '15 minutes');
SELECT test.same(outbox_relay.attach_outbox('public.renamed', 'seq', 'occurred_at'), :'identity'::uuid, 'it is attached again, with its identity');
SELECT test.ok(health_status = 'CRITICAL' AND oldest_age_seconds BETWEEN 3600 AND 3700, 'by the new name there are')
  FROM outbox_relay.check_outbox_health('public.renamed', 100, 1000, '5 minutes', '15 minutes');
SELECT outbox_relay.attach_outbox('public.renamed');
SELECT test.same(created_at_column, 'occurred_at'::name, 'a time that is there stays, where that of the call is not')
  FROM outbox_relay.outboxes WHERE outbox = 'public.renamed'::regclass;
SELECT outbox_relay.attach_outbox('public.renamed', 'seq', '');
SELECT test.same(created_at_column, ''::name, 'none is a word of its own') FROM outbox_relay.outboxes WHERE outbox = 'public.renamed'::regclass;
SELECT outbox_relay.attach_outbox('public.renamed');
SELECT test.same(created_at_column, ''::name, 'which is kept') FROM outbox_relay.outboxes WHERE outbox = 'public.renamed'::regclass;
SELECT outbox_relay.attach_outbox('public.renamed', 'seq', 'occurred_at');
ALTER TABLE public.renamed ADD COLUMN created_at timestamptz;
SELECT outbox_relay.attach_outbox('public.renamed', 'seq');
SELECT test.same(created_at_column, 'occurred_at'::name, 'a time that is not named changes none') FROM outbox_relay.outboxes WHERE outbox = 'public.renamed'::regclass;
SELECT outbox_relay.attach_outbox('public.renamed', 'seq', 'created_at');
SELECT test.same(created_at_column, 'created_at'::name, 'one that is named does') FROM outbox_relay.outboxes WHERE outbox = 'public.renamed'::regclass;
ALTER TABLE public.renamed DROP COLUMN created_at;
SELECT outbox_relay.attach_outbox('public.renamed', 'seq', 'occurred_at');

-- The number.
SELECT outbox_relay.note_progress(:'identity', 0);
ALTER TABLE public.renamed RENAME seq TO number;
SELECT test.same(outbox_relay.attach_outbox('public.renamed', 'number', 'occurred_at'), :'identity'::uuid, 'a number that was renamed keeps the identity');
SELECT test.same(unpublished_count, 1::bigint, 'and is counted by')
  FROM outbox_relay.check_outbox_health('public.renamed', 100, 1000, NULL, NULL);
ALTER TABLE public.renamed ADD COLUMN seq bigint UNIQUE GENERATED ALWAYS AS IDENTITY;
SELECT test.fails($$SELECT outbox_relay.attach_outbox('public.renamed', 'seq', 'occurred_at')$$, '55000', 'another number is not exchanged for it');
ALTER TABLE public.renamed DROP COLUMN seq;

-- published_at. The index has gone with it, and nobody is told to make another one.
UPDATE public.renamed SET published_at = now();
ALTER TABLE public.renamed RENAME published_at TO sent_at;
SELECT test.fails($$SELECT outbox_relay.attach_outbox('public.renamed', 'number', 'occurred_at')$$, '55000', 'a table that has lost its published_at is not attached again');
CREATE UNIQUE INDEX ON public.renamed (number);
SELECT test.fails($$SELECT outbox_relay.attach_outbox('public.renamed', 'number', 'occurred_at')$$, '55000', 'nor with an index of all rows');
SELECT test.ok(marks, 'it is still known') FROM outbox_relay.outboxes WHERE outbox = 'public.renamed'::regclass;
ALTER TABLE public.renamed RENAME sent_at TO published_at;
SELECT test.fails($$SELECT outbox_relay.accept_unmarked('public.renamed')$$, '55000', 'while it is there nobody says that it is not');
SELECT test.fails($$SELECT outbox_relay.accept_unmarked('pg_class')$$, '42704', 'nor of a table that is no outbox');
SELECT test.same(outbox_relay.attach_outbox('public.renamed', 'number', 'occurred_at'), :'identity'::uuid, 'renamed back it is attached as ever');
DELETE FROM public.renamed;
ALTER TABLE public.renamed DROP COLUMN published_at CASCADE;
SELECT test.ok(outbox_relay.accept_unmarked('public.renamed')::text = '', 'of one that keeps no published row a person says so');
SELECT test.same(outbox_relay.attach_outbox('public.renamed', 'number', 'occurred_at'), :'identity'::uuid, 'and it is attached again');
ALTER TABLE public.renamed ADD COLUMN published_at timestamptz;
SELECT outbox_relay.attach_outbox('public.renamed', 'number', 'occurred_at');
SELECT test.ok(marks, 'of one that has got a published_at it is known then') FROM outbox_relay.outboxes WHERE outbox = 'public.renamed'::regclass;
-- Another one of that name marks nothing.
SELECT outbox_relay.write_batch_number(:'identity', 1, 1, NULL, 0, 0);
ALTER TABLE public.renamed DROP COLUMN published_at, ADD COLUMN published_at timestamptz;
SELECT test.fails($$SELECT outbox_relay.attach_outbox('public.renamed', 'number', 'occurred_at')$$, '55000', 'a table with a new published_at is not attached again');
SELECT test.fails(format('SELECT outbox_relay.write_batch_number(%L, 1, 2, NULL, 0, 0)', :'identity'), '55000', 'and no batch of it ends well');
SELECT test.ok(outbox_relay.accept_unmarked('public.renamed')::text = '', 'a person says that it marks what was published');
SELECT test.fails($$SELECT outbox_relay.accept_unmarked('public.renamed')$$, '55000', 'once');
SELECT test.ok(outbox_relay.write_batch_number(:'identity', 1, 2, NULL, 0, 0)::text = '', 'then batches go on');
SELECT test.same(outbox_relay.attach_outbox('public.renamed', 'number', 'occurred_at'), :'identity'::uuid, 'and it is attached again as ever');
-- A dump that was restored has other numbers of tables and columns.
UPDATE outbox_relay.outboxes SET marked_table = 1, marked_column = 1 WHERE outbox = 'public.renamed'::regclass;
SELECT test.ok(outbox_relay.write_batch_number(:'identity', 1, 3, NULL, 0, 0)::text = '', 'in a copy the name has to do');
SELECT test.same(outbox_relay.attach_outbox('public.renamed', 'number', 'occurred_at'), :'identity'::uuid, 'until it is attached again');
SELECT test.ok((marked_table, marked_column) = (a.attrelid, a.attnum), 'then it is known by its numbers')
  FROM outbox_relay.outboxes, pg_attribute a WHERE outbox = 'public.renamed'::regclass AND a.attrelid = outbox AND a.attname = 'published_at';
SELECT outbox_relay.detach_outbox('public.renamed');
ALTER TABLE public.renamed DROP COLUMN published_at CASCADE;
SELECT outbox_relay.attach_outbox('public.renamed', 'number', 'occurred_at');
SELECT test.ok(NOT marks, 'one that was detached is attached as it is') FROM outbox_relay.outboxes WHERE outbox = 'public.renamed'::regclass;

-- Dates go on for longer than times.
CREATE TABLE public.dated (id bigint, payload jsonb, born date, seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
SELECT outbox_relay.attach_outbox('public.dated', 'seq', 'born');
INSERT INTO public.dated (born) VALUES (current_date - 2), ('5874897-12-31'), ('294276-12-31'), ('infinity'), ('-infinity'), ('4714-11-24 BC'), (NULL);
DELETE FROM public.dated WHERE born = '4714-11-24 BC';
SELECT test.ok(unpublished_count = 6 AND oldest_age_seconds BETWEEN 86400 AND 3 * 86400, 'dates that are no times have no age')
  FROM outbox_relay.check_outbox_health('public.dated', 100, 1000, NULL, NULL);
SELECT test.ok(unpublished_count > 2 AND oldest_age_seconds BETWEEN 86400 AND 3 * 86400, 'nor where rows are estimated')
  FROM outbox_relay.check_outbox_health('public.dated', 2, 2, NULL, NULL);
SELECT test.same(total_events, 6::bigint, 'they have a status') FROM outbox_relay.outbox_status('public.dated');
CREATE DOMAIN public.day AS date;
ALTER TABLE public.dated ALTER born TYPE public.day;
SELECT test.same(unpublished_count, 6::bigint, 'of a domain too') FROM outbox_relay.check_outbox_health('public.dated', 100, 1000, NULL, NULL);
ALTER TABLE public.dated ALTER born TYPE date;
SELECT outbox_relay.dead_letter('public.dated', seq, 'c', 't', 1) FROM public.dated;
SELECT test.same(array_agg(event_created_at::text ORDER BY event_created_at)::text,
                 format('{-infinity,"%s",infinity,NULL,NULL,NULL}', (current_date - 2)::timestamptz), 'and become dead letters without a time')
  FROM public.outbox_dead_letters WHERE outbox = 'public.dated';
SELECT test.same(count(outbox_relay.retry_dead_letter(dead_letter_id)), 6::bigint, 'which are retried') FROM public.outbox_dead_letters WHERE outbox = 'public.dated';
SELECT test.same(max(born) FILTER (WHERE isfinite(born)), '5874897-12-31'::date, 'as they were') FROM public.dated;

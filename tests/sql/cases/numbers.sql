-- SPDX-License-Identifier: Apache-2.0
-- Batch numbers: no gap, no repetition, no other outbox; generations.
SELECT identity AS me FROM outbox_relay.outboxes \gset
SELECT test.fails(format('SELECT outbox_relay.write_batch_number(%L, 1, 2, NULL, 0, 0)', :'me'), '55000', 'the first number is 1');
SELECT test.fails(format('SELECT outbox_relay.write_batch_number(%L, 2, 1, NULL, 0, 0)', :'me'), '55000', 'the first generation is 1');
SELECT test.fails($$SELECT outbox_relay.write_batch_number(gen_random_uuid(), 1, 1, NULL, 0, 0)$$, '55000', 'an unknown identity is refused');
SELECT test.same((SELECT count(*) FROM outbox_relay.last_batch_number(:'me')), 0::bigint, 'no batch yet: no row');
SELECT outbox_relay.write_batch_number(:'me', 1, n, 'topic', 3, n * 2) FROM generate_series(1, 200) n;
SELECT test.same(format('%s/%s/%s/%s/%s', generation, number, receipt_topic_id, receipt_partition, receipt_offset), '1/200/topic/3/400', 'the last number and its receipt')
  FROM outbox_relay.last_batch_number(:'me');
SELECT test.same((SELECT count(*) FROM outbox_relay.batch_numbers), 64::bigint, 'the last 64 are kept');
SELECT test.fails(format('SELECT outbox_relay.write_batch_number(%L, 1, 200, NULL, 0, 0)', :'me'), '55000', 'a repeated number is refused');
SELECT test.fails(format('SELECT outbox_relay.write_batch_number(%L, 1, 202, NULL, 0, 0)', :'me'), '55000', 'a gap is refused');
SELECT test.fails(format('SELECT outbox_relay.write_batch_number(%L, NULL, 201, NULL, 0, 0)', :'me'), '55000', 'NULL is refused');
SELECT test.fails(format('SELECT outbox_relay.begin_generation(%L, 199)', :'me'), '55000', 'a generation cannot reuse numbers');
SELECT test.same(outbox_relay.begin_generation(:'me', 500), 2, 'a new generation');
SELECT test.fails(format('SELECT outbox_relay.write_batch_number(%L, 1, 201, NULL, 0, 0)', :'me'), '55000', 'the old generation is over');
SELECT test.ok(outbox_relay.write_batch_number(:'me', 2, 501, NULL, 0, 0)::text = '', 'its numbers continue above the base');
-- A deferred constraint fails here, not at COMMIT.
CREATE TABLE public.deferred (a integer PRIMARY KEY, b integer REFERENCES public.deferred DEFERRABLE INITIALLY DEFERRED);
BEGIN;
INSERT INTO public.deferred VALUES (1, 2);
SELECT test.fails(format('SELECT outbox_relay.write_batch_number(%L, 2, 502, NULL, 0, 0)', :'me'), '23503', 'deferred constraints are checked before COMMIT');
ROLLBACK;
SELECT outbox_relay.note_progress(:'me', 10), outbox_relay.note_progress(:'me', 5);
SELECT test.same(settled_seq, 10::bigint, 'progress does not go back') FROM outbox_relay.progress;
-- The statement's cost must not grow with the versions that old snapshots keep.
SELECT outbox_relay.write_batch_number(:'me', 2, n, NULL, 0, n) FROM generate_series(502, 3000) n;
SELECT test.ok(test.buffers(format('SELECT outbox_relay.write_batch_number(%L, 2, 3001, NULL, 0, 0)', :'me')) < 60, 'a number touches few buffers behind 3000 dead ones');

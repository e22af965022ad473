-- SPDX-License-Identifier: Apache-2.0
-- Aggregates may move to an outbox that is made later: its numbers are above those that they have had.
\set three 'SELECT ''a'', gen_random_uuid(), ''a.b'', ''{}'' FROM generate_series(1, 3)'
\set columns '(aggregate_type, aggregate_id, event_type, payload)'
CREATE SCHEMA billing;
SELECT test.ok(outbox_relay.create_outbox('billing.early') IS NOT NULL, 'an outbox beside one that is not used yet');
INSERT INTO billing.early :columns :three;
SELECT test.same(min(seq), 1::bigint, 'begins at 1, as that does') FROM billing.early;
SELECT setval('public.outbox_events_seq_seq', 50000000);
INSERT INTO public.outbox_events :columns :three;
SELECT outbox_relay.create_outbox('billing.outbox');
INSERT INTO billing.outbox :columns :three;
SELECT test.same(min(seq), 100001006::bigint, 'one that is made later begins above the other''s numbers, with room for as many again') FROM billing.outbox;
SELECT test.same(format('%s/%s', last_value, is_called), '50000003/t', 'whose own sequence stays as it is') FROM public.outbox_events_seq_seq;
SELECT outbox_relay.create_outbox(format('billing.tenant_%s', n)) FROM generate_series(1, 40) n;
SELECT test.ok(outbox_relay.first_free_seq() < 100100000, 'many that are made in a row take little room');
INSERT INTO billing.tenant_40 :columns :three;
SELECT test.ok((SELECT max(seq) FROM billing.outbox) < min(seq), 'each begins above all that were used') FROM billing.tenant_40;
SELECT outbox_relay.note_progress(o.identity, 900000000) FROM outbox_relay.outboxes o WHERE o.outbox = 'billing.outbox'::regclass;
DROP TABLE billing.outbox;
SELECT outbox_relay.create_outbox('billing.outbox');
INSERT INTO billing.outbox :columns :three;
SELECT test.ok(min(seq) > 900000000, 'a table that takes the place of one that was dropped, too') FROM billing.outbox;
-- A column that was dropped, and a sequence that the owner of the functions may not read, are no hindrance.
ALTER TABLE billing.early DROP COLUMN seq CASCADE;
SELECT test.ok(outbox_relay.create_outbox('billing.late') IS NOT NULL, 'an outbox that has lost its number is no hindrance');

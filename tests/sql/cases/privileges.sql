-- SPDX-License-Identifier: Apache-2.0
-- Each role can do its work and nothing else. Roles are dropped again at the end: they belong to the cluster.
\set quiet_insert 'INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES (''a'', gen_random_uuid(), ''a.b'', ''{}'')'
BEGIN;
-- Where everybody may create in public (as PostgreSQL 13 and 14 come), an ordinary role's operators are not run by others.
CREATE ROLE outbox_test_stranger;
GRANT CREATE ON SCHEMA public TO outbox_test_stranger;
SET LOCAL ROLE outbox_test_stranger;
CREATE FUNCTION public.stranger(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'hijacked'; END $$;
CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.stranger);
CREATE FUNCTION public.stranger(regclass, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'hijacked'; END $$;
CREATE OPERATOR public.= (LEFTARG = regclass, RIGHTARG = regclass, FUNCTION = public.stranger);
RESET ROLE;
SELECT test.fails($$SELECT 1 FROM pg_class c WHERE c.oid = 'pg_class'::regclass$$, 'P0001', 'a stranger''s operator is found by the default search_path');
\ir ../../../schemas/postgres/roles.sql
GRANT INSERT ON public.outbox_events TO outbox_writer; -- as roles.sql did before
\ir ../../../schemas/postgres/roles.sql
SELECT test.ok(true, 'roles.sql runs no stranger''s operator, and can be repeated');
INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES ('a', gen_random_uuid(), 'a.b', '{}');
SELECT identity AS me FROM outbox_relay.outboxes \gset
-- The relay sleeps, so that the writer's trigger function really runs.
SET LOCAL ROLE outbox_writer;
:quiet_insert;
SELECT test.ok(true, 'the writer inserts');
SELECT test.fails('INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, seq) OVERRIDING SYSTEM VALUE VALUES (''a'', gen_random_uuid(), ''a.b'', ''{}'', 9223372036854775807)',
                  '42501', 'the writer chooses no seq');
SELECT test.fails('SELECT * FROM public.outbox_events', '42501', 'the writer cannot read');
SELECT test.fails(:'quiet_insert' || ' RETURNING id', '42501', 'the writer gets no id back');
SELECT test.fails(:'quiet_insert' || ' ON CONFLICT (id) DO NOTHING', '42501', 'nor does it ask what is there');
RESET ROLE;
GRANT SELECT (id) ON public.outbox_events TO outbox_writer;
SET LOCAL ROLE outbox_writer;
:quiet_insert RETURNING id AS returned_id \gset
SELECT test.fails(:'quiet_insert' || ' RETURNING id, seq', '42501', 'another column needs a right of its own');
SELECT test.ok(:'returned_id'::uuid IS NOT NULL, 'unless it may read the id, as the documents say');
SELECT test.fails('SELECT payload FROM public.outbox_events', '42501', 'which opens no event');
RESET ROLE;
DELETE FROM public.outbox_events WHERE id = :'returned_id';
REVOKE SELECT (id) ON public.outbox_events FROM outbox_writer;
SET LOCAL ROLE outbox_writer;
SELECT test.fails('DELETE FROM public.outbox_events', '42501', 'the writer cannot delete');
SELECT test.fails('UPDATE public.outbox_events SET payload = ''1''', '42501', 'the writer cannot change');
SELECT test.fails('SELECT outbox_relay.note_progress(gen_random_uuid(), 1)', '42501', 'the writer cannot call the relay''s functions');
SELECT test.fails('SELECT * FROM public.outbox_dead_letters', '42501', 'the writer cannot read dead letters');
SELECT test.same(health_status::text, 'OK', 'anybody may ask for the health') FROM public.check_outbox_health();
SET LOCAL ROLE outbox_relay;
SELECT seq AS some_seq FROM public.outbox_events ORDER BY seq LIMIT 1 \gset
SELECT test.ok(outbox_relay.write_batch_number(:'me', 1, 1, NULL, 0, 0)::text = '', 'the relay writes numbers');
SELECT outbox_relay.note_progress(:'me', 7);
SELECT test.same(settled_seq, 7::bigint, 'the relay notes progress') FROM outbox_relay.progress;
SELECT test.same((SELECT count(*) FROM outbox_relay.last_batch_number(:'me')), 1::bigint, 'the relay reads its numbers');
INSERT INTO outbox_relay.held_aggregates VALUES (:'me', 'a', 'b', 1, 'c', 't');
DELETE FROM outbox_relay.held_aggregates;
INSERT INTO outbox_relay.parked_topics VALUES (:'me', 'a', 1, 'c', 't');
DELETE FROM outbox_relay.parked_topics;
INSERT INTO outbox_relay.parked_event_types VALUES (:'me', 'a.b', 'a', 1, 'c', 't'); -- the version before
DELETE FROM outbox_relay.parked_event_types;
UPDATE public.outbox_events SET published_at = clock_timestamp() WHERE seq = :some_seq AND published_at IS NULL;
UPDATE public.outbox_events SET published_at = NULL, seq = DEFAULT WHERE seq = :some_seq RETURNING seq AS some_seq \gset
SELECT test.ok(outbox_relay.dead_letter('public.outbox_events', :some_seq, 'c', 't', 1) > 0, 'the relay dead-letters');
SELECT test.same(outbox_relay.try_sleep('public.outbox_events', 100), true, 'the relay sleeps');
UPDATE outbox_relay.progress SET settled_seq = 0;
SELECT test.same(unpublished_count, 1::bigint, 'the relay asks for the health') FROM outbox_relay.check_outbox_health('public.outbox_events', 1, 2, NULL, NULL);
SELECT test.fails('UPDATE public.outbox_events SET payload = ''1''', '42501', 'the relay cannot change an event');
SELECT test.fails('INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES (''a'', gen_random_uuid(), ''a.b'', ''{}'')', '42501', 'the relay cannot invent an event');
SELECT test.fails('DROP TABLE public.outbox_events', '42501', 'the relay cannot drop the outbox');
SELECT test.fails('TRUNCATE public.outbox_events', '42501', 'the relay cannot truncate it');
SELECT test.fails('CREATE TABLE outbox_relay.mine (a integer)', '42501', 'the relay creates nothing');
SELECT test.fails('UPDATE outbox_relay.outboxes SET adopted = true', '42501', 'the relay cannot change identities');
SELECT test.fails('SELECT outbox_relay.create_outbox(''public.more'')', '42501', 'the relay creates no outboxes');
SELECT test.fails(format('SELECT outbox_relay.begin_generation(%L, 100)', :'me'), '42501', 'the relay does not decide to go on after a stop');
SET LOCAL ROLE outbox_writer;
:quiet_insert;
SELECT test.ok(true, 'the writer inserts while the relay sleeps, without a right to the trigger function');
SET LOCAL ROLE outbox_operator;
SELECT test.ok(outbox_relay.retry_dead_letter((SELECT max(dead_letter_id) FROM public.outbox_dead_letters)) > 0, 'the operator retries');
SELECT test.same(outbox_relay.begin_generation(:'me', 100), 2, 'the operator decides to go on after a stop');
SET LOCAL ROLE outbox_monitor;
SELECT test.ok(unpublished_events >= 1, 'the monitor reads outbox_status') FROM public.outbox_status;
SELECT test.fails('SELECT * FROM public.outbox_events', '42501', 'the monitor reads no event');
RESET ROLE;
-- Services with an outbox each, with the grants of the documents.
CREATE SCHEMA billing;
SELECT outbox_relay.create_outbox('billing.outbox_events');
\ir ../../../schemas/postgres/roles.sql
CREATE ROLE outbox_test_billing;
GRANT USAGE ON SCHEMA billing TO outbox_test_billing;
GRANT INSERT (id, aggregate_type, aggregate_id, event_type, payload, metadata) ON billing.outbox_events TO outbox_test_billing;
CREATE ROLE outbox_test_search;
GRANT INSERT (id, aggregate_type, aggregate_id, event_type, payload, metadata) ON public.outbox_events TO outbox_test_search;
SET LOCAL ROLE outbox_relay;
SELECT test.same(outbox_relay.try_sleep('billing.outbox_events', 100), true, 'the relay sleeps at the second outbox');
SET LOCAL ROLE outbox_test_billing;
INSERT INTO billing.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES ('a', gen_random_uuid(), 'a.b', '{}');
SELECT test.ok(true, 'a service writes into its own outbox with these grants alone');
SELECT test.fails(:'quiet_insert', '42501', 'and into no other');
SELECT test.fails('INSERT INTO billing.outbox_events (aggregate_type, aggregate_id, event_type, payload, seq) OVERRIDING SYSTEM VALUE VALUES (''a'', gen_random_uuid(), ''a.b'', ''{}'', 5)',
                  '42501', 'it chooses no seq either');
SET LOCAL ROLE outbox_test_search;
:quiet_insert;
SELECT test.fails('INSERT INTO billing.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES (''a'', gen_random_uuid(), ''a.b'', ''{}'')',
                  '42501', 'nor does the other service write into this one');
SET LOCAL ROLE outbox_writer;
INSERT INTO billing.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES ('a', gen_random_uuid(), 'a.b', '{}');
SELECT test.ok(true, 'outbox_writer writes into each');
RESET ROLE;
-- Somebody's operators and functions in the writer's search_path are not run by ours.
CREATE SCHEMA evil;
CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'hijacked'; END $$;
CREATE FUNCTION evil.pg_try_advisory_xact_lock_shared(integer, integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'hijacked'; END $$;
SET LOCAL search_path = evil, pg_catalog;
:quiet_insert;
SELECT test.ok(true, 'the trigger does not follow the writer''s search_path');
SELECT pg_advisory_unlock_all();
ROLLBACK;
-- Outside a transaction, since the procedure commits.
CREATE FUNCTION public.stranger(regclass, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'hijacked'; END $$;
CREATE OPERATOR public.= (LEFTARG = regclass, RIGHTARG = regclass, FUNCTION = public.stranger);
CALL outbox_relay.adopt_outbox('public.outbox_events');
SELECT test.ok(true, 'adoption runs no stranger''s operator');
DROP FUNCTION public.stranger(regclass, regclass) CASCADE;

-- SPDX-License-Identifier: Apache-2.0
-- The space of a backlog that has drained stays the table's, until it is asked for.
ALTER TABLE public.outbox_events SET (autovacuum_enabled = false, toast.autovacuum_enabled = false);
CREATE FUNCTION pg_temp.sizes(OUT rows bigint, OUT toast bigint) LANGUAGE sql AS
$$ SELECT pg_relation_size(c.oid), pg_relation_size(c.reltoastrelid) FROM pg_class c WHERE c.oid = 'public.outbox_events'::regclass $$;
INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload)
SELECT 'post', gen_random_uuid(), 'post.created', jsonb_build_object('body', (SELECT string_agg(md5(format('%s %s', e, i)), '') FROM generate_series(1, 200) i))
  FROM generate_series(1, 10000) e;
CREATE TEMP TABLE full_size AS SELECT * FROM pg_temp.sizes();
SELECT test.ok(rows > 1000000 AND toast > 10000000, format('a backlog has a size: %s', full_size)) FROM full_size;
DELETE FROM public.outbox_events;
VACUUM public.outbox_events;
SELECT test.same(s::text, f::text, 'vacuum alone gives nothing back, whoever runs it') FROM pg_temp.sizes() s, full_size f;
VACUUM (TRUNCATE) public.outbox_events;
SELECT test.ok(s.rows < f.rows / 10 AND s.toast < f.toast / 10, format('with TRUNCATE it does, and of the large values, too: %s', s)) FROM pg_temp.sizes() s, full_size f;
SELECT test.ok(reloptions @> ARRAY['vacuum_truncate=false'], 'whatever the setting says, which stays') FROM pg_class WHERE oid = 'public.outbox_events'::regclass;

# SPDX-License-Identifier: Apache-2.0
# Up, down, up again; what is refused on the way down; further outboxes; the form of the table.
catalog() {
    sql -c "SELECT n.nspname || '.' || c.relname || ' ' || c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname IN ('public', 'outbox_relay') UNION ALL
            SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'outbox_relay'))
            ORDER BY 1"
}
before=$(catalog)
migrate up; first=$(catalog)
migrate down; is "down leaves nothing behind" "$(catalog)" "$before"
is "down drops the schema" "$(sql -c "SELECT count(*) FROM pg_namespace WHERE nspname = 'outbox_relay'")" 0
migrate up; is "up, down, up gives the same objects" "$(catalog)" "$first"
identity=$(sql -c "SELECT identity FROM outbox_relay.outboxes")
migrate down 005; migrate up 005
is "going down to the table and up again keeps its identity" "$(sql -c "SELECT identity FROM outbox_relay.outboxes")" "$identity"
sql -c "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload)
        VALUES ('post', gen_random_uuid(), 'post.created', '{}')"
migrate down 005
if migrate down 004 004 2>/dev/null; then not_ok "an outbox with events is not dropped"; else ok "an outbox with events is not dropped"; fi
migrate up 005
assertions "$here/schema.sql"

# 018 down gives back what was there before it.
definitions() { sql -c "SELECT p.oid::regprocedure, pg_get_functiondef(p.oid), p.proacl FROM pg_proc p WHERE p.pronamespace = 'outbox_relay'::regnamespace ORDER BY 1"; }
fresh_database restored
migrate up 001 017; before=$(definitions)
migrate up 018; up=$(definitions)
migrate down 018; is "018 down gives the functions back" "$(definitions)" "$before"
migrate up 018; is "and up again" "$(definitions)" "$up"

# attach PATTERN NAME: the outbox public.own is attached; what is said has the pattern once
attach() {
    sql -c "SELECT outbox_relay.attach_outbox('public.own')" >/dev/null 2>"$work/err" || true
    is "$2" "$(grep -cE "$1" "$work/err")" 1
}
sql -c "CREATE TABLE public.own (seq bigint GENERATED ALWAYS AS IDENTITY, created_at timestamptz, sent boolean, published_at timestamptz)" \
    -c "CREATE UNIQUE INDEX foreign_idx ON public.own (seq) WHERE NOT sent"
attach "ERROR: .*no valid unique index on public.own\(seq\)" "an index of other rows is refused"
attach "HINT: +CREATE UNIQUE INDEX CONCURRENTLY own_unpublished_seq_idx ON public.own \(seq\) WHERE published_at IS NULL;" "with the one that is wanted"
is "and nothing is attached" "$(sql -c "SELECT count(*) FROM outbox_relay.outboxes WHERE outbox = 'public.own'::regclass")" 0
sql -c "CREATE UNIQUE INDEX whole_idx ON public.own (seq)"
attach "WARNING: .*has published rows too" "an index of published rows too is taken, with a warning"
attach "HINT: +CREATE UNIQUE INDEX CONCURRENTLY own_unpublished_seq_idx ON public.own \(seq\) WHERE published_at IS NULL;" "that has the better one"
is "it is attached" "$(sql -c "SELECT count(*) FROM outbox_relay.outboxes WHERE outbox = 'public.own'::regclass")" 1
sql -c "CREATE UNIQUE INDEX own_unpublished_seq_idx ON public.own (seq) WHERE published_at IS NULL"
sql -c "SELECT outbox_relay.attach_outbox('public.own')" >/dev/null 2>"$work/err"
is "beside an index of the unpublished rows nothing is said" "$(cat "$work/err")" ""
sql -c "SELECT outbox_relay.detach_outbox('public.own')" -c "ALTER TABLE public.own DROP published_at" >/dev/null
sql -c "SELECT outbox_relay.attach_outbox('public.own')" >/dev/null 2>"$work/err"
is "nor of an index of all rows where none is marked" "$(cat "$work/err")" ""
sql -c "SELECT outbox_relay.detach_outbox('public.own')" -c "DROP INDEX public.whole_idx" >/dev/null
attach "HINT: +CREATE UNIQUE INDEX CONCURRENTLY own_unpublished_seq_idx ON public.own \(seq\);" "the index that is wanted there has no published_at"
sql -c "DROP TABLE public.own" \
    -c "CREATE TABLE public.own (seq bigint GENERATED ALWAYS AS IDENTITY, created_at timestamptz NOT NULL, PRIMARY KEY (created_at, seq)) PARTITION BY RANGE (created_at)"
attach "public.own is partitioned by RANGE \(created_at\), and can have no unique index on seq alone" "a table partitioned by time is refused"
attach "PostgreSQL demands the partition key in every unique index" "with the reason"

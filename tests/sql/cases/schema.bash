# SPDX-License-Identifier: Apache-2.0
# Up, down, up again; what is refused on the way down; further outboxes; the form of the table.
catalog() {
    sql -c "SELECT n.nspname || '.' || c.relname || ' ' || c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname IN ('public', 'outbox_relay') UNION ALL
            SELECT format('%s.%s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation::regcollation)
              FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = 'outbox_relay' AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped UNION ALL
            SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'outbox_relay'))
            ORDER BY 1"
}
definitions() { sql -c "SELECT p.oid::regprocedure, pg_get_functiondef(p.oid), p.proacl FROM pg_proc p WHERE p.pronamespace = 'outbox_relay'::regnamespace ORDER BY 1"; }
before=$(catalog)
migrate up; first=$(catalog)
migrate down; is "down leaves nothing behind" "$(catalog)" "$before"
is "down drops the schema" "$(sql -c "SELECT count(*) FROM pg_namespace WHERE nspname = 'outbox_relay'")" 0
migrate up 001 017; migrate up 019 019; old=$(definitions); migrate up 018 018; new=$(definitions); migrate up 020 020; newer=$(definitions)
migrate up 021 021; newest=$(definitions) columns=$(catalog); migrate up 022; latest=$(definitions)
is "up, down, up gives the same objects" "$(catalog)" "$first"
migrate down 022; is "022 down gives the functions back" "$(definitions)" "$newest"
is "and the tables" "$(catalog)" "$columns"
migrate down 021 021; is "021 down gives the functions back" "$(definitions)" "$newer"
migrate down 020 020; is "020 down gives the functions back" "$(definitions)" "$new"
migrate down 018 018; is "018 down too" "$(definitions)" "$old"
migrate up 018 018; is "and up again" "$(definitions)" "$new"
migrate up 020 020; is "020 too" "$(definitions)" "$newer"
migrate up 021 021; is "021 too" "$(definitions)" "$newest"
migrate up 022; is "022 too" "$(definitions)" "$latest"
identity=$(sql -c "SELECT identity FROM outbox_relay.outboxes")
migrate down 005; migrate up 005
is "going down to the table and up again keeps its identity" "$(sql -c "SELECT identity FROM outbox_relay.outboxes")" "$identity"
sql -c "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload)
        VALUES ('post', gen_random_uuid(), 'post.created', '{}')"
migrate down 005
if migrate down 004 004 2>/dev/null; then not_ok "an outbox with events is not dropped"; else ok "an outbox with events is not dropped"; fi
migrate up 005
assertions "$here/schema.sql"

# attach NAME PATTERN...: the outbox public.own is attached; what is said has each pattern once
attach() {
    local name=$1 pattern; shift
    sql -c "SELECT outbox_relay.attach_outbox('public.own')" >/dev/null 2>"$work/err" || true
    for pattern in "$@"; do is "$name: '$pattern'" "$(grep -cE "$pattern" "$work/err")" 1; done
    if [ $# = 0 ]; then is "$name" "$(cat "$work/err")" ""; fi
}
attached="SELECT count(*) FROM outbox_relay.outboxes WHERE outbox = 'public.own'::regclass"
wanted="HINT: +CREATE UNIQUE INDEX CONCURRENTLY own_unpublished_seq_idx ON public.own \\(seq\\)"
sql -c "CREATE TABLE public.own (seq bigint GENERATED ALWAYS AS IDENTITY, created_at timestamptz, sent boolean, published_at timestamptz)" \
    -c "CREATE UNIQUE INDEX foreign_idx ON public.own (seq) WHERE NOT sent"
attach "an index of other rows is refused" "ERROR: .*no valid unique index on public.own\(seq\)" "$wanted WHERE published_at IS NULL;"
is "and nothing is attached" "$(sql -c "$attached" -c "CREATE UNIQUE INDEX whole_idx ON public.own (seq)")" 0
attach "an index of published rows too is taken, with a warning" "WARNING: .*has published rows too" "$wanted WHERE published_at IS NULL;"
is "it is attached" "$(sql -c "$attached" -c "CREATE UNIQUE INDEX own_unpublished_seq_idx ON public.own (seq) WHERE published_at IS NULL")" 1
attach "beside an index of the unpublished rows nothing is said"
sql -c "ALTER TABLE public.own DROP published_at" -c "SELECT outbox_relay.accept_unmarked('public.own')" >/dev/null
attach "nor of an index of all rows where none is marked"
sql -c "DROP INDEX public.whole_idx"
attach "the index that is wanted there has no published_at" "$wanted;"
sql -c "SELECT outbox_relay.detach_outbox('public.own')" -c "DROP TABLE public.own" \
    -c "CREATE TABLE public.own (seq bigint GENERATED ALWAYS AS IDENTITY, created_at timestamptz NOT NULL, PRIMARY KEY (created_at, seq)) PARTITION BY RANGE (created_at)" >/dev/null
attach "a table partitioned by time is refused" "public.own is partitioned by RANGE \(created_at\), and can have no unique index on seq alone" \
    "PostgreSQL demands the partition key in every unique index"

sql -c "DROP TABLE public.own" -c "CREATE UNLOGGED TABLE public.own (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, created_at timestamptz)"
attach "an unlogged table is refused" "table public.own is unlogged or temporary" "HINT: +ALTER TABLE public.own SET LOGGED"
sql -c "DROP TABLE public.own" -c "CREATE TABLE public.own (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, created_at timestamptz) PARTITION BY RANGE (seq)" \
    -c "CREATE UNLOGGED TABLE public.own_first PARTITION OF public.own FOR VALUES FROM (0) TO (100)"
attach "so is one with an unlogged partition" "table public.own_first is unlogged or temporary" "HINT: +ALTER TABLE public.own_first SET LOGGED"
sql -c "ALTER TABLE public.own_first SET LOGGED"
attach "and no other one"

# The first table under another name: the view follows it, the dashboards' function as the documents say.
sql -c "ALTER TABLE public.outbox_events RENAME TO events"
is "the view follows a table that is renamed" "$(sql -c "SELECT count(*) FROM public.outbox_status")" 1
if sql -c "SELECT * FROM public.check_outbox_health()" >/dev/null 2>&1; then not_ok "the function does not"; else ok "the function does not"; fi
documented=$(sed -n '/CREATE OR REPLACE FUNCTION public.check_outbox_health/,/\$\$;/p' "$here/../../docs/operations.md")
sql -c "${documented//finance.outbox/public.events}"
is "made anew as the documents say, it judges the table" "$(sql -c "SELECT split_part(message, ':', 1) FROM public.check_outbox_health()")" public.events

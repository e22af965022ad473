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

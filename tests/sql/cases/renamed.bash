# SPDX-License-Identifier: Apache-2.0
# What a table was when it was attached is known of those that were attached before file 022, too.
marks() { sql -c "SELECT o.outbox, o.marks FROM outbox_relay.outboxes o ORDER BY o.outbox::text"; }
migrate up 001 021
sql -c "CREATE TABLE public.plain (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, created_at timestamptz)" -c "SELECT outbox_relay.attach_outbox('public.plain')" \
    -c "SELECT outbox_relay.create_outbox('public.gone')" -c "DROP TABLE public.gone" >/dev/null
migrate up 022
is "tables that were attached before are looked at" "$(marks | grep -v '^[0-9]')" $'outbox_events|t\nplain|f'
sql -c "DELETE FROM outbox_relay.outboxes WHERE NOT EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = outbox)"
assertions "$here/renamed.sql"
sql -c "ALTER TABLE public.outbox_events RENAME published_at TO sent_at"
sql -c "SELECT outbox_relay.attach_outbox('public.outbox_events')" >/dev/null 2>"$work/err" || true
is "what was lost is named" "$(grep -c 'ERROR: .*table public.outbox_events had a column published_at when it was attached, and has none' "$work/err")" 1
is "and what to do" "$(grep -c "HINT: .*Rename it back.*SELECT outbox_relay.accept_unmarked('public.outbox_events');" "$work/err")" 1
is "and of no index" "$(grep -c 'CREATE UNIQUE INDEX' "$work/err")" 0
migrate down 022; migrate up 022
is "taken back and done again, 022 looks anew" "$(marks | grep outbox_events)" "outbox_events|f"

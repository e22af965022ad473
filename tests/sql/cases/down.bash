# SPDX-License-Identifier: Apache-2.0
# What the down scripts must not throw away, and what may be gone already.
insert="INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES ('a', gen_random_uuid(), 'a.b', '{}')"

# waits_for_lock: somebody waits for a table's lock; false after 10 s
waits_for_lock() {
    local deadline=$((SECONDS + 10))
    until [ "$(sql -c "SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")" != 0 ]; do
        if [ $SECONDS -ge $deadline ]; then return 1; fi
        read -r -t 0.02 <> <(:) || true
    done
}

migrate up
sql -c "SELECT outbox_relay.create_outbox('public.other')" -c "${insert/outbox_events/other}" \
    -c "SELECT outbox_relay.dead_letter('public.other', 1, 'c', 't', 1)" >/dev/null
if sql -c "SELECT outbox_relay.detach_outbox('public.other')" 2>"$work/err"; then not_ok "an outbox with dead letters is not detached"; else
    is "an outbox with dead letters is not detached" "$(grep -c 'still holds events of public.other' "$work/err")" 1
fi
sql -c "SELECT outbox_relay.retry_dead_letter(dead_letter_id) FROM public.outbox_dead_letters" -c "SELECT outbox_relay.detach_outbox('public.other')" -c "DROP TABLE public.other" >/dev/null
is "without them it is" "$(sql -c "SELECT count(*) FROM outbox_relay.outboxes")" 1
migrate down 005
session_open
session_do "BEGIN; $insert;"
migrate down 004 004 2>"$work/err" & down=$!
if waits_for_lock; then ok "down waits for a writer"; else not_ok "down waits for a writer"; fi
session_do "COMMIT;"
if wait $down; then not_ok "the event of a writer that commits meanwhile is not dropped"; else
    is "the event of a writer that commits meanwhile is not dropped" "$(grep -c 'still holds events that are not published' "$work/err")" 1
fi
is "it is still there" "$(sql -c "SELECT count(*) FROM public.outbox_events")" 1

sql -c "SELECT outbox_relay.dead_letter('public.outbox_events', seq, 'c', 't', 1) FROM public.outbox_events" >/dev/null
if migrate down 003 004 2>"$work/err"; then not_ok "a dead letter keeps its outbox"; else
    is "a dead letter keeps its outbox" "$(grep -c 'still holds events of public.outbox_events' "$work/err")" 1
fi
migrate up 005
is "it can still be retried" "$(sql -c "SELECT outbox_relay.retry_dead_letter(dead_letter_id) > 0 FROM public.outbox_dead_letters")" t
migrate down 005; sql -c "DELETE FROM public.outbox_events"
session_do "BEGIN; INSERT INTO public.outbox_dead_letters (outbox, event_id, seq, event, reason_code, reason_text) VALUES ('public.outbox_events', 'x', 1, '{}', 'c', 't');"
migrate down 004 004
migrate down 003 003 2>"$work/err" & down=$!
if waits_for_lock; then ok "down waits for the dead letters"; else not_ok "down waits for the dead letters"; fi
session_do "COMMIT;"
if wait $down; then not_ok "a dead letter that is committed meanwhile is not dropped"; else ok "a dead letter that is committed meanwhile is not dropped"; fi
session_close

sql -c "DELETE FROM public.outbox_dead_letters"; migrate up 004
sql -c "SELECT outbox_relay.create_outbox('public.other')" -c "DROP TABLE public.other" >/dev/null
is "a table that was dropped is detached" "$(sql -c "SELECT outbox_relay.detach_outbox(o.outbox) FROM outbox_relay.outboxes o WHERE o.outbox <> 'public.outbox_events'::regclass" \
    -c "SELECT count(*) FROM outbox_relay.outboxes")" $'\n1'
sql -c "DROP TABLE public.outbox_events CASCADE"
if migrate down; then ok "a table that was dropped by hand is no hindrance"; else not_ok "a table that was dropped by hand is no hindrance"; fi
is "nothing is left" "$(sql -c "SELECT count(*) FROM pg_namespace WHERE nspname = 'outbox_relay'")" 0

# What a relay may do to parked types it may do to parked topics, before roles.sql runs again.
migrate up 001 014
sql -c "CREATE ROLE outbox_test_parker" -c "GRANT INSERT ON outbox_relay.parked_event_types TO outbox_test_parker"
migrate up 015
is "015 gives the relay's role its rights" "$(sql -c "SELECT has_table_privilege('outbox_test_parker', 'outbox_relay.parked_topics', 'DELETE')")" t
migrate down
sql -c "DROP ROLE outbox_test_parker"

# A function of the project's own comes back as the migrator's: with SECURITY DEFINER nobody else may call it.
sql -c "CREATE FUNCTION public.check_outbox_health() RETURNS integer LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'"
migrate up; migrate down
is "a function with the migrator's rights is given to nobody" "$(sql -c "SELECT public.check_outbox_health(), has_function_privilege('public', 'public.check_outbox_health()', 'EXECUTE')")" "1|f"

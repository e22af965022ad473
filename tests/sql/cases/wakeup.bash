# SPDX-License-Identifier: Apache-2.0
# The trigger says nothing while the relay is awake or absent, and wakes it while it sleeps.
migrate up
oid=$(sql -c "SELECT 'public.outbox_events'::regclass::oid")
insert="INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES ('a', gen_random_uuid(), 'a.b', '{}')"
session_open
session_do "LISTEN outbox_relay_$oid;" >/dev/null
# heard [WANTED]: notifications since the last call; waits for WANTED of them, and then sees no more than came
heard() {
    local count=0 try
    for try in $(seq 1 200); do
        count=$((count + $(session_do "SELECT $try;" | grep -c "Asynchronous notification \"outbox_relay_$oid\"" || true)))
        if [ $count -ge "${1:-0}" ]; then break; fi
    done
    echo $count
}

sql -c "$insert"; is "nobody sleeps: no NOTIFY" "$(heard)" 0
is "try_sleep gets W when no writer is busy" "$(session_do "SELECT outbox_relay.try_sleep('public.outbox_events', 200);")" t
is "the lock is held once" "$(sql -c "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = $oid AND objid = 0 AND objsubid = 2 AND mode = 'ExclusiveLock' AND granted")" 1
is "try_sleep leaves lock_timeout alone" "$(session_do "SHOW lock_timeout;")" 0
sql -c "$insert"; is "the relay sleeps: NOTIFY" "$(heard 1)" 1
printf 'a\t%s\ta.b\t{}\n' 00000000-0000-0000-0000-000000000001 |
    sql -c "COPY public.outbox_events (aggregate_type, aggregate_id, event_type, payload) FROM STDIN"
is "COPY wakes it too" "$(heard 1)" 1
sql -c "SET outbox_relay.notify = 'off'; $insert"; is "outbox_relay.notify = off: no NOTIFY" "$(heard)" 0
for word in FALSE no 0; do
    sql -c "SET outbox_relay.notify = '$word'; $insert"; is "outbox_relay.notify = $word: no NOTIFY" "$(heard)" 0
done
sql -c "BEGIN; $insert; ROLLBACK"; is "a rollback does not wake it" "$(heard)" 0
sql -c "BEGIN; $insert; $insert; $insert; COMMIT"; is "one transaction wakes it once" "$(heard 1)" 1
sql -c "ALTER TABLE public.outbox_events RENAME TO renamed; INSERT INTO public.renamed (aggregate_type, aggregate_id, event_type, payload) VALUES ('a', gen_random_uuid(), 'a.b', '{}'); ALTER TABLE public.renamed RENAME TO outbox_events"
is "a renamed table still wakes it" "$(heard 1)" 1
if [ "$(sql -c "SHOW max_prepared_transactions")" = 0 ]; then
    if [ "$server" = 1 ]; then not_ok "two-phase commit" "max_prepared_transactions is 0"; else echo "  skipped two-phase commit: max_prepared_transactions is 0"; fi
else
    if sql -c "BEGIN" -c "$insert" -c "PREPARE TRANSACTION 'loud'" 2>/dev/null; then not_ok "PREPARE after a NOTIFY is refused by the server"; else ok "PREPARE after a NOTIFY is refused by the server"; fi
    if sql -c "SET outbox_relay.notify = 'off'" -c "BEGIN" -c "$insert" -c "PREPARE TRANSACTION 'quiet'"; then ok "with notify = off two-phase commit works while the relay sleeps"; else not_ok "with notify = off two-phase commit works"; fi
    sql -c "COMMIT PREPARED 'quiet'"
    if PGOPTIONS='-c outbox_relay.notify=off' sql -c "BEGIN" -c "$insert" -c "PREPARE TRANSACTION 'quiet'"; then ok "so it does with the setting in the connection string"; else not_ok "with the setting in the connection string"; fi
    sql -c "COMMIT PREPARED 'quiet'"
fi
# So the documents name other ways first: most who need it are no superusers.
sql -c "CREATE ROLE outbox_test_admin CREATEROLE"
is "a role's setting takes a superuser" "$(sql -v VERBOSITY=verbose -c "BEGIN" -c "SET LOCAL ROLE outbox_test_admin" -c "CREATE ROLE outbox_test_login LOGIN" \
    -c "ALTER ROLE outbox_test_login SET outbox_relay.notify = 'off'" 2>&1 | grep -o 'ERROR:  [0-9A-Z]*')" "ERROR:  42501"
sql -c "DROP ROLE outbox_test_admin"
is "waking gives W back" "$(session_do "SELECT pg_advisory_unlock($oid, 0);")" t
sql -c "$insert"; is "awake again: no NOTIFY" "$(heard)" 0
if [ "$(sql -c "SHOW max_prepared_transactions")" != 0 ]; then
    if sql -c "BEGIN" -c "$insert" -c "PREPARE TRANSACTION 'awake'"; then ok "while the relay is awake two-phase commit needs no setting"; else not_ok "two-phase commit while awake"; fi
    is "a prepared writer keeps the relay from sleeping" "$(session_do "SELECT outbox_relay.try_sleep('public.outbox_events', 50);")" f
    sql -c "ROLLBACK PREPARED 'awake'"
    is "and lets it sleep when it has ended" "$(session_do "SELECT outbox_relay.try_sleep('public.outbox_events', 200);")" t
fi
is "another outbox does not wake this one" "$(sql -c "SELECT outbox_relay.create_outbox('public.other') IS NOT NULL" \
    -c "INSERT INTO public.other (aggregate_type, aggregate_id, event_type, payload) VALUES ('a', gen_random_uuid(), 'a.b', '{}')" >/dev/null; heard)" 0
session_close

# A table that a transaction has written to for long: who attaches or detaches it by hand gives up, and lets the writers go on.
sql -c "CREATE TABLE public.busy (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)"
session_open
session_do "BEGIN; INSERT INTO public.busy DEFAULT VALUES; UPDATE public.other SET event_type = event_type;"
declare -A table_of=([attach_outbox]=busy [create_wakeup_trigger]=busy [detach_outbox]=other) # which has the trigger
functions=(attach_outbox create_wakeup_trigger detach_outbox) waiting=()
for function in "${functions[@]}"; do
    PGOPTIONS='-c statement_timeout=20s' sql -v VERBOSITY=verbose -c "SELECT outbox_relay.$function('public.${table_of[$function]}')" >/dev/null 2>"$work/$function.err" & waiting+=($!)
done
for i in "${!functions[@]}"; do
    wait "${waiting[$i]}" || true
    is "${functions[$i]} does not wait for long" "$(grep -o 'ERROR:  [0-9A-Z]*' "$work/${functions[$i]}.err")" "ERROR:  55P03"
done
session_do "ROLLBACK;"
is "then it is attached" "$(sql -c "SELECT outbox_relay.attach_outbox('public.busy') IS NOT NULL")" t
session_close

# SPDX-License-Identifier: Apache-2.0
# Outboxes that were dropped without detach_outbox. A dump has their number alone, and on the server where it is restored that is
# any table's. Roles belong to the cluster: what roles.sql does is rolled back.
migrate up
sql -c "CREATE SCHEMA tenant" -c "SELECT outbox_relay.create_outbox('tenant.outbox')" >/dev/null
gone=$(sql -c "SELECT 'tenant.outbox'::regclass::oid")
sql -c "DROP TABLE tenant.outbox" \
    -c "CREATE TABLE public.users (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, secret text)"
# roles OID SQL...: roles.sql where the registration has this number, then the statements; what it has said is in err
roles() {
    local oid=$1 statements=(); shift
    for statement in "$@"; do statements+=(-c "$statement"); done
    sql -c BEGIN -c "UPDATE outbox_relay.outboxes SET outbox = $oid::oid::regclass WHERE outbox::oid = $gone" -f "$schemas/roles.sql" "${statements[@]}" -c ROLLBACK 2>"$work/err"
}
users=$(sql -c "SELECT 'public.users'::regclass::oid")
may="SELECT concat_ws(' ', has_table_privilege('outbox_relay', '%s', 'SELECT'), has_table_privilege('outbox_relay', '%s', 'DELETE'), has_any_column_privilege('outbox_writer', '%s', 'INSERT'), has_table_privilege('outbox_operator', '%s', 'INSERT'))"
is "nobody gets a right on a table that took the number" "$(roles "$users" "${may//%s/public.users}")" "f f f f"
is "and it is said" "$(grep -c 'WARNING:  public.users is registered as an outbox, and has no trigger that wakes the relay: nothing is granted on it' "$work/err")" 1
is "outboxes have their rights" "$(roles "$users" "${may//%s/public.outbox_events}")" "t t t t"
for object in public.users_pkey public.users_seq_seq public.outbox_status; do
    oid=$(sql -c "SELECT '$object'::regclass::oid")
    is "$object is no hindrance" "$(roles "$oid" "${may//%s/public.outbox_events}")" "t t t t"
    hint=$(sed -n 's/^HINT: .*\(SELECT outbox_relay.detach_outbox([^;]*;\).*/\1/p' "$work/err")
    is "its registration can be taken away as it says" "$(roles "$oid" "$hint" "SELECT count(*) FROM outbox_relay.outboxes")" $'\n1'
done
sql -c "DROP ROLE IF EXISTS outbox_test_migrator" -c "CREATE ROLE outbox_test_migrator" -c "GRANT USAGE ON SCHEMA outbox_relay TO outbox_test_migrator" \
    -c "GRANT ALL ON ALL TABLES IN SCHEMA outbox_relay, public TO outbox_test_migrator" -c "REVOKE ALL ON public.users FROM outbox_test_migrator" \
    -c "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA outbox_relay TO outbox_test_migrator"
is "nor does it take a right on that table" "$(roles "$users" "SET LOCAL ROLE outbox_test_migrator" "SELECT outbox_relay.detach_outbox('public.users')" \
    "SELECT count(*) FROM outbox_relay.outboxes" "SELECT count(*) FROM pg_locks WHERE relation = $users AND mode = 'AccessExclusiveLock'")" $'\n1\n0'
sql -c "DROP OWNED BY outbox_test_migrator" -c "DROP ROLE outbox_test_migrator"
is "nor is what is no table at all" "$(roles "$gone" "${may//%s/public.outbox_events}")" "t t t t"
is "which is said, too" "$(grep -c "WARNING:  $gone is registered as an outbox, and there is no such table: nothing is granted on it" "$work/err")" 1
sql -c "$(sed -n 's/^HINT: *\(SELECT outbox_relay.detach_outbox([^;]*;\)$/\1/p' "$work/err")"
is "it is detached as it says" "$(sql -c "SELECT outbox FROM outbox_relay.outboxes")" outbox_events
roles "$gone" "SELECT 1" >/dev/null
is "then nothing is said" "$(cat "$work/err")" ""
is "a table that has lost its trigger is told how to get it" \
    "$(roles "$gone" "DROP TRIGGER outbox_relay_wakeup ON public.outbox_events" "\\i $schemas/roles.sql"; grep -c "HINT:  If it is an outbox: SELECT outbox_relay.create_wakeup_trigger('public.outbox_events'); if it is none: SELECT outbox_relay.detach_outbox('public.outbox_events');" "$work/err")" 1

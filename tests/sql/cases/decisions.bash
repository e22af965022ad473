# SPDX-License-Identifier: Apache-2.0
# What a person decides is in the server's log, with who it was: a line of level LOG, which a session may be sent, too.
migrate up
sql -f "$schemas/roles.sql" 2>/dev/null
sql -c "CREATE ROLE outbox_test_alice LOGIN" -c "GRANT outbox_operator TO outbox_test_alice"

# decided NAME SQL WHO PATTERN: one line of the decision, said by that login
decided() {
    PGOPTIONS='-c client_min_messages=log' PGAPPNAME="o'neil" sql -c "SET SESSION AUTHORIZATION $3" -c "$2" >"$work/out" 2>"$work/err" || true
    is "$1" "$(grep -cE "LOG: +outbox_relay: decision of $3 \\(as $3, from the server itself, application 'o''neil'\\): $4\$" "$work/err")" 1
}
me=$(sql -c "SELECT identity FROM outbox_relay.outboxes")
owner=$(sql -c "SELECT current_user")
sql -c "INSERT INTO public.outbox_events (id, aggregate_type, aggregate_id, event_type, payload) SELECT format('00000000-0000-0000-0000-00000000000%s', n)::uuid, 'a', gen_random_uuid(), 'a.b', '{}' FROM generate_series(1, 2) n" \
    -c "SELECT outbox_relay.dead_letter('public.outbox_events', seq, 'c', 't', 1) FROM public.outbox_events" >/dev/null
decided "who lets an outbox go on" "SELECT outbox_relay.begin_generation('$me', 100)" outbox_test_alice \
    "public.outbox_events goes on, with generation 1 behind batch number 100 \\(begin_generation\\)"
decided "who puts a dead letter back" "SELECT outbox_relay.retry_dead_letter(1)" outbox_test_alice \
    "dead letter 1 of public.outbox_dead_letters, event '00000000-0000-0000-0000-000000000001', is in public.outbox_events again as seq 3 \\(retry_dead_letter\\)"
decided "who drops one" "SELECT outbox_relay.drop_dead_letter(2)" outbox_test_alice \
    "dead letter 2 of public.outbox_dead_letters, event '00000000-0000-0000-0000-000000000002' of public.outbox_events, is dropped \\(drop_dead_letter\\)"
is "it is gone" "$(cat "$work/out"; sql -c "SELECT count(*) FROM public.outbox_dead_letters")" $'t\n0'
is "of one that is not there nothing is said" "$(PGOPTIONS='-c client_min_messages=log' sql -c "SELECT outbox_relay.drop_dead_letter(2)" \
    -c "SELECT outbox_relay.retry_dead_letter(2) IS NULL" 2>&1)" $'f\nt'
# With the owner's rights anybody could drop them.
is "the daemon's login drops none" "$(sql -c "INSERT INTO public.outbox_dead_letters (outbox, event_id, seq, event, reason_code, reason_text) VALUES ('public.outbox_events', 'x', 1, '{}', 'c', 't')" \
    -c "SET ROLE outbox_relay" -c "SELECT outbox_relay.drop_dead_letter(3)" 2>&1 | grep -c 'permission denied for table outbox_dead_letters')" 1
decided "who takes a server for the outbox's" "SELECT outbox_relay.accept_system('public.outbox_events')" "$owner" \
    "public.outbox_events belongs to this server now \\(accept_system\\)"
decided "who renews an identity" "SELECT outbox_relay.renew_identity('public.outbox_events')" "$owner" \
    "public.outbox_events has the identity [0-9a-f-]+, no longer $me \\(renew_identity\\)"
decided "who makes an outbox" "SELECT outbox_relay.create_outbox('public.other')" "$owner" "public.other is an outbox, with the identity [0-9a-f-]+"
is "of one that is known nothing is said" "$(PGOPTIONS='-c client_min_messages=log' sql -c "SELECT outbox_relay.attach_outbox('public.other') IS NOT NULL" 2>&1 | grep -v 'wakeup')" t
decided "who takes the relay off" "SELECT outbox_relay.detach_outbox('public.other')" "$owner" "public.other is no outbox any more \\(detach_outbox\\)"
if [ "$server" = 1 ]; then
    is "and it is in the server's log" "$(grep -c 'LOG:  outbox_relay: decision of outbox_test_alice' "$work/server.log")" 3
fi
sql -c "DROP OWNED BY outbox_test_alice" -c "DROP ROLE outbox_test_alice"

# SPDX-License-Identifier: Apache-2.0
# A dead letter whose table has lost a column since is not put back without it: the letter is the only copy.
migrate up
sql -c "ALTER TABLE public.outbox_events ADD COLUMN trace text, ADD COLUMN extra json, ADD COLUMN doubled text GENERATED ALWAYS AS (trace || trace) STORED, ADD COLUMN kept text GENERATED ALWAYS AS (aggregate_type || 'x') STORED" \
    -c "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, metadata, trace, extra) VALUES
        ('a', gen_random_uuid(), 'whole', '1', '{\"k\": 1}', 't', '{\"b\":1,  \"b\":2}'), ('a', gen_random_uuid(), 'plain', '2', NULL, NULL, NULL)" \
    -c "SELECT outbox_relay.dead_letter('public.outbox_events', seq, 'c', 't', 1) FROM public.outbox_events ORDER BY seq" \
    -c "ALTER TABLE public.outbox_events RENAME metadata TO headers" -c "ALTER TABLE public.outbox_events RENAME extra TO more" \
    -c "SET client_min_messages = warning" -c "ALTER TABLE public.outbox_events DROP COLUMN trace CASCADE" >/dev/null
letters() { sql -c "SELECT count(*) FROM public.outbox_dead_letters"; }
# refused NAME NAMES: letter 1 is not put back, for the sake of these members; its error is kept
refused() {
    if sql -c "SELECT outbox_relay.retry_dead_letter(1)" >/dev/null 2>"$work/err"; then not_ok "$1" "it went through"; return; fi
    is "$1" "$(grep -c "dead letter 1 has what table public.outbox_events has no column for: $2\$" "$work/err")" 1
}
# hinted WHICH [SED...]: runs one of the two statements of the hint
hinted() {
    local which=$1; shift
    sed -n "s/^HINT: .*$which: \\(UPDATE [^;]*;\\).*/\\1/p" "$work/err" | sed "$@" >"$work/hint.sql"
    sql -f "$work/hint.sql"
}
refused "a letter is not put back without members that are no columns any more" "doubled, extra, metadata, trace"
is "it stays" "$(letters)" 2
is "of those that are NULL nothing is lost" "$(sql -c "SELECT outbox_relay.retry_dead_letter(2) > 0")" t
hinted "what is not wanted" -e "s/doubled,extra,metadata,trace/doubled,trace/"
refused "what is not wanted is left out, by the hint's statement" "extra, metadata"
hinted "If it was renamed" -e "s/new_name/more/g"
refused "a column of json gets its new name" "metadata"
hinted "If it was renamed" -e "s/new_name/headers/g"
is "and then the letter is put back" "$(sql -c "SELECT outbox_relay.retry_dead_letter(1) > 0" -c "SELECT payload, headers, more FROM public.outbox_events WHERE event_type = 'whole'")" \
    $'t\n1|{"k": 1}|{"b":1,  "b":2}'
is "nothing is left" "$(letters)" 0

# The number that a row had is no loss: it is drawn anew.
sql -c "SELECT outbox_relay.dead_letter('public.outbox_events', seq, 'c', 't', 1) FROM public.outbox_events WHERE event_type = 'plain'" \
    -c "ALTER TABLE public.outbox_events RENAME seq TO number" -c "UPDATE outbox_relay.outboxes SET seq_column = 'number'" >/dev/null
is "a letter from before the number was renamed is put back" "$(sql -c "SELECT outbox_relay.retry_dead_letter(dead_letter_id) > 0 FROM public.outbox_dead_letters")" t
# Whatever its name was; but not where two may be it.
sql -c "CREATE TABLE public.own (id bigint, payload jsonb, nr bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)" -c "SELECT outbox_relay.attach_outbox('public.own', 'nr')" \
    -c "INSERT INTO public.own (id, payload) VALUES (7, '{}'), (2, '{}')" -c "SELECT outbox_relay.dead_letter('public.own', nr, 'c', 't', 1) FROM public.own ORDER BY nr" \
    -c "ALTER TABLE public.own RENAME nr TO pos" -c "SELECT outbox_relay.attach_outbox('public.own', 'pos')" >/dev/null
is "so is one of a number of another name" "$(sql -c "SELECT outbox_relay.retry_dead_letter(dead_letter_id) > 0 FROM public.outbox_dead_letters WHERE event->>'id' = '7'" -c "SELECT id, pos FROM public.own")" $'t\n7|3'
sql -c "ALTER TABLE public.own RENAME id TO event"
if sql -c "SELECT outbox_relay.retry_dead_letter(dead_letter_id) FROM public.outbox_dead_letters" >/dev/null 2>"$work/err"; then not_ok "a column with the same number is no number"; else
    is "a column with the same number is no number" "$(grep -c "has what table public.own has no column for: id, nr\$" "$work/err")" 1
fi

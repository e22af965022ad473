# SPDX-License-Identifier: Apache-2.0
# An owner under row-level security (FORCE) sees no row: said as an error, never taken for an empty outbox.
owner=outbox_owner_test_$$
sql -c "CREATE ROLE $owner LOGIN" -c "ALTER DATABASE $PGDATABASE OWNER TO $owner" -c "ALTER SCHEMA public OWNER TO $owner"
as_owner() { PGUSER=$owner "$@"; }
as_owner migrate up
sql -c "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) SELECT 'a', gen_random_uuid(), 'a.b', '{}' FROM generate_series(1, 500)" \
    -c "ALTER TABLE public.outbox_events ENABLE ROW LEVEL SECURITY" -c "ALTER TABLE public.outbox_events FORCE ROW LEVEL SECURITY" \
    -c "CREATE POLICY tenant ON public.outbox_events USING (metadata->>'tenant' = current_setting('app.tenant', true))"
is "a policy hides the rows" "$(as_owner sql -c "SELECT count(*) FROM public.outbox_events")" 0
for question in "check_outbox_health()" outbox_status; do
    if as_owner sql -c "SELECT * FROM public.$question" >"$work/out" 2>"$work/err"; then not_ok "$question does not judge what it cannot see" "$(cat "$work/out")"; else
        is "$question does not judge what it cannot see" "$(grep -c 'row-level security' "$work/err")" 1
    fi
done
as_owner migrate down 005
if as_owner migrate down 004 004 2>"$work/err"; then not_ok "hidden rows are not dropped"; else
    is "hidden rows are not dropped" "$(grep -c 'row-level security' "$work/err")" 1
fi
is "they are still there" "$(sql -c "SELECT count(*) FROM public.outbox_events")" 500
sql -c "ALTER DATABASE $PGDATABASE OWNER TO CURRENT_USER" -c "DROP OWNED BY $owner CASCADE" -c "DROP ROLE $owner"

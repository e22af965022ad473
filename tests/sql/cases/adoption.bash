# SPDX-License-Identifier: Apache-2.0
# An existing table is adopted while writers and an old relay go on: no row lost, none published twice, old before new.
count=${rows:-50000}
sql -f "$here/nova.sql"
sql -c "CREATE TABLE journal AS SELECT * FROM outbox_events WITH NO DATA" \
    -c "INSERT INTO outbox_events (aggregate_type, aggregate_id, event_type, payload, created_at, published_at)
        SELECT 'post', gen_random_uuid(), 'post.created', jsonb_build_object('n', g), now() - ($count - g) * interval '1 ms' - interval '1 hour',
               CASE WHEN g <= $count * 0.8 THEN now() END FROM generate_series(1, $count) g" \
    -c "CREATE TABLE before AS SELECT id, published_at FROM outbox_events" \
    -c "VACUUM ANALYZE outbox_events"
writer=outbox_adoption_test_$$
sql -c "CREATE ROLE $writer LOGIN" -c "GRANT INSERT ON outbox_events TO $writer" -c "GRANT SELECT ON outbox_status TO $writer"
old_view=$(sql -c "SELECT pg_get_viewdef('outbox_status')"); old_function=$(sql -c "SELECT pg_get_functiondef('check_outbox_health()'::regprocedure)")

echo "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES ('post', gen_random_uuid(), 'post.created', '{\"new\": 1}');" >"$work/write.sql"
cat >"$work/old_relay.sql" <<'SQL'
UPDATE public.outbox_events SET published_at = now() WHERE id = (SELECT id FROM public.outbox_events WHERE published_at IS NULL ORDER BY created_at LIMIT 1);
SQL
writers=()
if [ -n "$pgbench" ]; then
    chmod 755 "$work"
    # At a rate: as many as they can would take the cores from what they are to be in the way of.
    (cd "$work" && exec env --default-signal=INT "$pgbench" -n -U "$writer" -c 4 -R 400 -T 600 -l --log-prefix=stall -f write.sql >writers.out 2>&1) & writers+=($!)
    (cd "$work" && exec env --default-signal=INT "$pgbench" -n -c 1 -R 50 -T 600 -f old_relay.sql >old_relay.out 2>&1) & writers+=($!)
    deadline=$((SECONDS + 60))
    until [ "$(sql -c "SELECT count(*) > $count + 100 FROM outbox_events")" = t ]; do
        if ! kill -0 "${writers[0]}" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
            not_ok "writers write"; tail -n 5 "$work/writers.out"
            break
        fi
        read -r -t 0.02 <> <(:) || true
    done
elif [ "$server" = 1 ]; then
    not_ok "writers go on meanwhile" "no pgbench found: install postgresql-contrib"
else
    echo "  without concurrent writers: no pgbench found"
fi

migrate up 001 005
sql -f "$schemas/006_adopt_outbox_events.up.sql"
# A build that failed leaves an invalid index; the last step must see it.
sql -c "CREATE UNIQUE INDEX outbox_events_unpublished_seq_idx ON public.outbox_events (seq) WHERE published_at IS NULL" \
    -c "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'outbox_events_unpublished_seq_idx'::regclass"
migrate up 007 007
if sql -f "$schemas/008_finish_adoption.up.sql" 2>"$work/err"; then not_ok "an invalid index is refused"; else is "an invalid index is refused, with the way out" "$(grep -c 'REINDEX INDEX CONCURRENTLY public.outbox_events_unpublished_seq_idx' "$work/err")" 1; fi
is "drop_invalid_indexes drops it" "$(sql -c "SELECT outbox_relay.drop_invalid_indexes()")" 1
migrate up 007
for pid in "${writers[@]}"; do kill -INT "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
if [ -n "$pgbench" ]; then
    echo "  longest stall of a writer: $(awk '$3 > most {most = $3} END {printf "%.0f ms of %d inserts", most / 1000, NR}' "$work"/stall.*)"
    is "no writer failed" "$(grep -c 'aborted\|ERROR' "$work/writers.out" || true)" 0
    is "the old relay did not fail" "$(grep -c 'aborted\|ERROR' "$work/old_relay.out" || true)" 0
fi
is "every row has a seq of its own" "$(sql -c "SELECT count(*) = count(DISTINCT seq) AND count(*) >= $count FROM outbox_events")" t
is "no old row is lost" "$(sql -c "SELECT count(*) FROM before b WHERE NOT EXISTS (SELECT FROM outbox_events e WHERE e.id = b.id)")" 0
is "no published row is unpublished again" "$(sql -c "SELECT count(*) FROM before b JOIN outbox_events e USING (id) WHERE b.published_at IS NOT NULL AND e.published_at IS DISTINCT FROM b.published_at")" 0
is "old rows are in the order of created_at" "$(sql -c "SELECT count(*) FROM (SELECT created_at, lag(created_at) OVER (ORDER BY seq) AS before FROM outbox_events WHERE payload ? 'n') s WHERE created_at < before")" 0
is "new rows come after old ones" "$(sql -c "SELECT (SELECT max(seq) FROM outbox_events WHERE payload ? 'n') < coalesce((SELECT min(seq) FROM outbox_events WHERE payload ? 'new'), 1e18)")" t
is "the gap holds no row" "$(sql -c "SELECT count(*) FROM outbox_events e JOIN outbox_relay.outboxes o ON e.seq >= o.gap_from AND e.seq < o.gap_to")" 0
is "seq is an identity" "$(sql -c "SELECT attidentity::text || attnotnull FROM pg_attribute WHERE attrelid = 'outbox_events'::regclass AND attname = 'seq'")" atrue
if sql -U "$writer" -f "$work/write.sql"; then ok "the writer needs no new right"; else not_ok "the writer needs no new right"; fi
is "its seq is above all" "$(sql -c "SELECT seq = max(seq) OVER () FROM outbox_events ORDER BY created_at DESC, seq DESC LIMIT 1")" t
is "the health function works now" "$(sql -c "SELECT count(*) FROM check_outbox_health()")" 1
is "the estimate is within a tenth" "$(sql -c "SELECT h.unpublished_count BETWEEN c.n * 0.9 AND c.n * 1.1 FROM check_outbox_health() h, (SELECT count(*) AS n FROM outbox_events WHERE published_at IS NULL) c")" t
is "readers of the old view keep their right" "$(sql -U "$writer" -c "SELECT count(*) FROM outbox_status")" 1
identity=$(sql -c "SELECT identity FROM outbox_relay.outboxes")
sql -f "$schemas/006_adopt_outbox_events.up.sql" -f "$schemas/008_finish_adoption.up.sql"
is "adopting twice changes nothing" "$(sql -c "SELECT identity FROM outbox_relay.outboxes")" "$identity"

total=$(sql -c "SELECT count(*) FROM outbox_events")
migrate down 008
sql -U "$writer" -f "$work/write.sql"
migrate up 008
is "one step down and up: seq goes on above" "$(sql -c "SELECT count(*) = count(DISTINCT seq) AND count(seq) = $total + 1 FROM outbox_events")" t
# Nothing has drawn a number since, and all are published.
is "an identity that starts above all is no number that went back" "$(sql -c BEGIN -c "UPDATE public.outbox_events SET published_at = now() WHERE published_at IS NULL" \
    -c "SELECT outbox_relay.note_progress(o.identity, (SELECT max(seq) FROM public.outbox_events)) FROM outbox_relay.outboxes o" \
    -c "SELECT health_status || message FROM check_outbox_health()" -c ROLLBACK | tail -n 1)" "OKpublic.outbox_events: 0 unpublished events"
sql -c "SELECT outbox_relay.dead_letter('public.outbox_events', max(seq), 'c', 't', 1) FROM public.outbox_events WHERE published_at IS NULL" >/dev/null
if migrate down 2>"$work/err"; then not_ok "a dead letter keeps its adopted outbox"; else
    is "a dead letter keeps its adopted outbox" "$(grep -c 'still holds events of public.outbox_events' "$work/err")" 1
fi
is "it can still be retried" "$(sql -c "SELECT outbox_relay.retry_dead_letter(dead_letter_id) > 0 FROM public.outbox_dead_letters")" t
migrate down 000 008
is "down gives the table back without seq" "$(sql -c "SELECT count(*) FROM pg_attribute WHERE attrelid = 'outbox_events'::regclass AND attnum > 0 AND NOT attisdropped")" 10
is "and with all its rows" "$(sql -c "SELECT count(*) FROM outbox_events")" $((total + 1))
is "and without a trigger" "$(sql -c "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'outbox_events'::regclass")" 0
is "the old view is back" "$(sql -c "SELECT pg_get_viewdef('outbox_status')")" "$old_view"
is "its reader too" "$(sql -c "SELECT has_table_privilege('$writer', 'outbox_status', 'SELECT')")" t
is "the old function is back" "$(sql -c "SELECT pg_get_functiondef('check_outbox_health()'::regprocedure)")" "$old_function"
migrate up
is "and up again" "$(sql -c "SELECT count(seq) FROM outbox_events")" $((total + 1))

# Rows are numbered by their id.
for form in "id uuid" "id uuid NOT NULL" "id uuid UNIQUE"; do
    sql -c "DROP TABLE IF EXISTS public.unfit" -c "CREATE TABLE public.unfit ($form, created_at timestamptz, published_at timestamptz)" \
        -c "INSERT INTO public.unfit VALUES (gen_random_uuid())"
    if sql -c "CALL outbox_relay.adopt_outbox('public.unfit')" 2>"$work/err"; then not_ok "'$form' is not adopted"; else
        is "'$form' is not adopted" "$(grep -c 'its column id is not unique and NOT NULL' "$work/err")" 1
    fi
done
is "nor touched" "$(sql -c "SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.unfit'::regclass AND attname = 'seq'")" 0
sql -c "DROP OWNED BY $writer" -c "DROP ROLE $writer"

# Autovacuum, slow and at once, on a table of its own.
sql -c "CREATE TABLE public.vacuumed (n integer, filler text) WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0,
        autovacuum_analyze_threshold = 1000000000, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)" \
    -c "INSERT INTO public.vacuumed SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g" -c "UPDATE public.vacuumed SET n = 0 WHERE n % 10 = 0" \
    -c "ALTER SYSTEM SET autovacuum_naptime = 1" -c "SELECT pg_reload_conf()" >/dev/null
vacuuming="SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = 'public.vacuumed'::regclass"
# vacuumed: waits until autovacuum works on the table
vacuumed() {
    local deadline=$((SECONDS + 120))
    until [ "$(sql -c "$vacuuming")" = 1 ] || [ $SECONDS -ge $deadline ]; do read -r -t 0.1 <> <(:) || true; done
}
vacuumed
is "autovacuum is at work" "$(sql -c "$vacuuming")" 1
if sql -c "CALL outbox_relay.run_short_step('public.vacuumed', 'outbox_relay.set_queue_storage', 20)" 2>"$work/err"; then ok "it gives way to a short step"; else
    not_ok "it gives way to a short step" "$(grep -m 1 ERROR "$work/err")"
fi
session_open
session_do "BEGIN; LOCK TABLE public.vacuumed IN SHARE UPDATE EXCLUSIVE MODE;" >/dev/null
if sql -c "CALL outbox_relay.run_short_step('public.vacuumed', 'outbox_relay.set_queue_storage', 1)" 2>"$work/err"; then not_ok "another change of the table is waited for"; else
    is "another change of the table is told, and whose it is" "$(tr -d '\n' <"$work/err" | grep -c 'an index build or another change of the table goes on.*process [0-9]* (ShareUpdateExclusiveLock)')" 1
fi
session_do "ROLLBACK; BEGIN; LOCK TABLE public.vacuumed IN ROW EXCLUSIVE MODE;" >/dev/null
if sql -c "CALL outbox_relay.run_short_step('public.vacuumed', 'outbox_relay.set_queue_storage', 2)" 2>"$work/err"; then not_ok "a writer is waited for"; else
    is "a writer is told, and whose it is" "$(tr -d '\n' <"$work/err" | grep -c 'long transactions use it.*process [0-9]* (RowExclusiveLock)')" 1
fi
session_do "ROLLBACK;" >/dev/null
session_close
sql -c "ALTER SYSTEM RESET autovacuum_naptime" -c "SELECT pg_reload_conf()" >/dev/null

# The times that docs/commands.md names, and no others: of what takes a table's lock.
is "no function waits for a table's lock for longer than is documented" "$(sql -c "SELECT string_agg(p.proname || ' ' || split_part(c, '=', 2), ', ' ORDER BY p.proname)
    FROM pg_proc p, unnest(p.proconfig) c WHERE p.pronamespace = 'outbox_relay'::regnamespace AND c LIKE 'lock_timeout=%'")" \
    "abandon_adoption 2s, attach_outbox 1s, create_wakeup_trigger 1s, detach_outbox 1s, drop_invalid_indexes 2s, revert_adoption 2s"
is "the index of an adopted table neither" "$(grep -o "'lock_timeout', '[0-9a-z]*'" "$schemas/007_outbox_events_seq_index.down.sql")" "'lock_timeout', '2s'"
is "the documented times" "$(grep -c 'one second at a time and retried for a minute\|and two seconds at a time where one is given back' "$schemas/../../docs/commands.md")" 2

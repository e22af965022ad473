# SPDX-License-Identifier: Apache-2.0
# Names of tables that leave no room for the name of the index: PostgreSQL cuts at 63 bytes.
migrate up
long=$(printf 'a%.0s' {1..43})
sql -c "CREATE SCHEMA x"
index_of() { sql -c "SELECT string_agg(i.indexrelid::regclass::text, ',') FROM pg_index i WHERE i.indrelid = '$1'::regclass AND i.indpred IS NOT NULL"; }
create() { sql -c "SELECT outbox_relay.create_outbox($1) IS NOT NULL" 2>&1; }
is "a name that leaves room is kept whole" "$(create "'x.$long'"; index_of "x.$long")" $'t\n'"x.${long}_unpublished_seq_idx"
is "two that begin alike are two outboxes" "$(create "'x.${long}_eu'"; create "'x.${long}_us'")" $'t\nt'
is "each with the beginning of its name and its number" \
    "$(index_of "x.${long}_us")" "x.${long:0:34}_$(sql -c "SELECT to_hex('x.${long}_us'::regclass::oid::bigint)")_unpublished_seq_idx"
is "a name without any room is one, too, and no character is cut in two" "$(create "'x.' || repeat(chr(31665), 21)"; create "'x.' || repeat(chr(31665), 20) || 'bcd'")" $'t\nt'
is "all indexes have names of their own" "$(sql -c "SELECT count(DISTINCT indexname) FROM pg_indexes WHERE schemaname = 'x' AND indexname LIKE '%\\_unpublished\\_seq\\_idx'")" 5

# Adopted: the index of one is not taken for that of the other, whatever they are called.
for name in one two; do
    sql -c "CREATE TABLE x.${long}_$name (id uuid PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz)" \
        -c "CALL outbox_relay.adopt_outbox('x.${long}_$name')"
done
sql -c "CREATE UNIQUE INDEX old_idx ON x.${long}_one (seq) WHERE published_at IS NULL"
if sql -c "CALL outbox_relay.finish_adoption('x.${long}_two')" 2>"$work/err"; then not_ok "an index that is missing is told"; else
    is "an index that is missing is told" "$(grep -c "of x.${long}_two is missing" "$work/err")" 1
fi
sed -n 's/^HINT: *\(CREATE UNIQUE INDEX [^;]*;\).*/\1/p' "$work/err" >"$work/hint.sql"
is "the hint's statement makes it" "$(sql -f "$work/hint.sql" 2>&1; sql -c "CALL outbox_relay.finish_adoption('x.${long}_two')" 2>&1)" ""
sql -c "UPDATE pg_index SET indisvalid = false WHERE indrelid = 'x.${long}_one'::regclass AND indpred IS NOT NULL"
if sql -c "CALL outbox_relay.finish_adoption('x.${long}_one')" 2>"$work/err"; then not_ok "an invalid one is refused"; else
    is "an invalid one is refused, with the way out" "$(grep -c "REINDEX INDEX CONCURRENTLY $(index_of "x.${long}_one");" "$work/err")" 1
fi
sql -c "UPDATE pg_index SET indisvalid = true WHERE indrelid = 'x.${long}_one'::regclass"
is "one of another name is taken" "$(sql -c "CALL outbox_relay.finish_adoption('x.${long}_one')" 2>&1)" ""
is "all are outboxes" "$(sql -c "SELECT count(*) FROM outbox_relay.outboxes")" 8

# What a broken build has left goes by either name.
sql -c "ALTER INDEX x.${long}_unpublished_seq_idx RENAME TO other_idx" -c "ALTER INDEX x.old_idx RENAME TO ${long}_unpublished_seq_idx" \
    -c "UPDATE pg_index SET indisvalid = false WHERE indrelid IN ('x.${long}_one'::regclass, 'x.${long}_two'::regclass) AND indpred IS NOT NULL"
is "invalid indexes are dropped by either name" "$(sql -c "SELECT outbox_relay.drop_invalid_indexes()")" 2

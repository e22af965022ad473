#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/services on real servers: up, usable, killed, paused, restarted with data and ports kept, two instances
# side by side, nothing left running. Runs with npm and mvn that fail, so it also shows that a second start needs
# no download (scripts/setup must have run). Takes about half a minute.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/test-services-XXXXXX")
chmod 755 "$work"
one=$work/one two=$work/two

services() { "$root/scripts/services" "$@"; }
cleanup() {
    for folder in "$one" "$two"; do
        services reset --dir "$folder" >>"$work/log" 2>&1 || tail -n 5 "$work/log" >&2
    done
    rm -rf "$work"
}
trap cleanup EXIT
fail() {
    echo "FAIL: $*" >&2
    tail -n 20 "$work/log" >&2
    exit 1
}
quiet() { services "$@" >>"$work/log" 2>&1 || fail "services $* exited $?"; }
# expect WHAT WANTED GOT
expect() { [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"; }
clickhouse() {
    curl -sS --noproxy '*' --max-time 10 "$CLICKHOUSE_URL/" -H "X-ClickHouse-User: $CLICKHOUSE_USER" -H "X-ClickHouse-Key: $CLICKHOUSE_PASSWORD" -d "$1"
}
postgres() { timeout 20 psql -X -q -A -t -v ON_ERROR_STOP=1 "$POSTGRES_DSN" -c "$1"; }
brokers() { timeout 20 kcat -b "$KAFKA_BOOTSTRAP" -L -J -m 10 | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["brokers"]))'; }

mkdir "$work/bin"
for name in npm mvn; do
    printf '#!/bin/sh\necho "%s was called" >&2\nexit 1\n' "$name" >"$work/bin/$name"
    chmod +x "$work/bin/$name"
done
export PATH="$work/bin:$PATH"
unset SERVICES_DIR

# Two instances at once, on different ports.
services start --dir "$two" --only postgres,kafka,alertmanager >"$work/log.two" 2>&1 &
second=$!
quiet start --dir "$one"
wait "$second" || { cat "$work/log.two" >&2; fail "the second instance did not start"; }
# shellcheck disable=SC1091 # written by scripts/services
. "$two/env"
other_postgres=$PGPORT other_kafka=$KAFKA_BOOTSTRAP
expect "alertmanager" 200 "$(curl -sS --noproxy '*' -o "$work/answer" -w '%{http_code}' "$ALERTMANAGER_URL/api/v2/status")"
# shellcheck disable=SC1091
. "$one/env"
[ "$other_postgres" != "$PGPORT" ] || fail "both instances use PostgreSQL port $PGPORT"
[ "$other_kafka" != "$KAFKA_BOOTSTRAP" ] || fail "both instances use $KAFKA_BOOTSTRAP"
expect "mode of env" 600 "$(stat -c %a "$one/env")"
expect "status" 0 "$(services status --dir "$one" >"$work/status"; echo $?)"

# Usable by the relay's users, refused without.
postgres 'CREATE TABLE kept (a int); INSERT INTO kept VALUES (41)'
expect "prepared transactions" 50 "$(postgres 'SHOW max_prepared_transactions')"
if PGPASSWORD=wrong PGCONNECT_TIMEOUT=5 psql -X "host=127.0.0.1 port=$PGPORT user=relay dbname=outbox_relay" -c 'SELECT 1' >"$work/refused" 2>&1; then
    fail "PostgreSQL let a wrong password in"
fi
expect "one broker" 1 "$(brokers)"
clickhouse 'CREATE TABLE outbox_relay.kept (a UInt64) ENGINE = MergeTree ORDER BY a'
clickhouse 'INSERT INTO outbox_relay.kept VALUES (42)'
expect "clickhouse without credentials" 500 "$(curl -sS --noproxy '*' -o "$work/refused" -w '%{http_code}' "$CLICKHOUSE_URL/" -d 'SELECT a FROM outbox_relay.kept')"
expect "clickhouse with a wrong password" 403 "$(curl -sS --noproxy '*' -o "$work/refused" -w '%{http_code}' "$CLICKHOUSE_URL/" -H 'X-ClickHouse-User: relay' -H 'X-ClickHouse-Key: wrong' -d 'SELECT 1')"

# A crash of everything: status says so; started again on the same ports, the data is there.
quiet kill postgres kafka clickhouse --dir "$one"
expect "status after kill" 3 "$(services status --dir "$one" >"$work/status"; echo $?)"
expect "dead processes" 3 "$(grep -c ' dead ' "$work/status")"
quiet start --dir "$one"
expect "row after kill" 41 "$(postgres 'SELECT a FROM kept')"
expect "clickhouse row after kill" 42 "$(clickhouse 'SELECT a FROM outbox_relay.kept')"
expect "broker after kill" 1 "$(brokers)"
before=$(cat "$POSTGRES_PID_FILE")
quiet restart postgres clickhouse --dir "$one"
[ "$before" != "$(cat "$POSTGRES_PID_FILE")" ] || fail "restart kept the PostgreSQL process"
expect "row after restart" 41 "$(postgres 'SELECT a FROM kept')"

# Paused, it takes connections and says nothing; resumed, it answers.
quiet pause clickhouse --dir "$one"
if curl -s --noproxy '*' --max-time 1 "$CLICKHOUSE_URL/ping" >"$work/answer"; then fail "a paused ClickHouse answered"; fi
quiet resume clickhouse --dir "$one"
expect "clickhouse after resume" 42 "$(clickhouse 'SELECT a FROM outbox_relay.kept')"

# What must be refused.
mkdir "$work/foreign"
touch "$work/foreign/file"
if services start --dir "$work/foreign" >"$work/refused" 2>&1; then fail "started in a folder with foreign files"; fi
grep -q 'is not empty' "$work/refused" || fail "no clear word about the foreign folder: $(cat "$work/refused")"
if services kill postgres --dir "$work/nowhere" >"$work/refused" 2>&1; then fail "killed where nothing was started"; fi

# Nothing is left running, neither by stop nor by reset, which also takes away the folder and PostgreSQL's shared memory.
pids=$(cat "$one"/run/*.pid "$two"/run/*.pid)
expect "recorded processes" 6 "$(wc -w <<<"$pids" | tr -d ' ')"
segment=$(awk 'NR == 7 { print $2 }' "$(find "$two" -name postmaster.pid)")
has_segment() { awk -v id="$1" '$2 == id { found = 1 } END { exit !found }' /proc/sysvipc/shm; }
has_segment "$segment" || fail "no segment $segment of shared memory for the PostgreSQL that runs"
quiet stop --dir "$one"
quiet reset --dir "$two"
[ ! -e "$two" ] || fail "reset left $two"
if has_segment "$segment"; then fail "reset left the shared memory $segment"; fi
for pid in $pids; do
    state=$(sed 's/.*) \(.\).*/\1/' "/proc/$pid/stat" 2>/dev/null || echo gone)
    case $state in gone | Z) ;; *) fail "process $pid is still there ($state)" ;; esac
done
quiet reset --dir "$one"
[ ! -e "$one" ] || fail "reset left $one"
echo "ok: services"

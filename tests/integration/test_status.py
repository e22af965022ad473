# SPDX-License-Identifier: Apache-2.0
"""status: from a daemon, from the servers, watched; its exit codes."""
import json
import os
import signal
import socket
import subprocess

from inserting import Sender, post
from relaytools.relay import command, program, wait_until, write_config
from relaytools.sessions import another_owner, autocommitting, stranger, take_outbox_locks


def config_of(place, **changes):
    return write_config(os.path.join(place.folder, "status.ini"), place.sections(**changes))


def run(place, *arguments, **changes):
    return command("status", *arguments, config=config_of(place, **changes), binary=place.binary)


def document(place, *arguments, **changes):
    result = run(place, "--json", *arguments, **changes)
    assert result.stdout, (result.returncode, result.stderr)
    return result.returncode, json.loads(result.stdout)


def test_from_the_servers_when_no_daemon_answers(place):
    place.insert_event()
    place.execute("SELECT outbox_relay.dead_letter('public.outbox_events', (SELECT max(seq) FROM outbox_events), 'too_large', 'x', 1)")
    place.insert_event()
    # The first outbox is another relay's: nothing is told of it, nor of the dead letters that it shares with the other.
    code, status = document(place, outbox={"table": "public.off", "enabled": "false"},
                            outbox__shop={"table": "public.outbox_events", "enabled": "true"})
    assert list(status["checks"]["outbox"]["instances"]) == ["shop"]
    outbox = status["checks"]["outbox"]["instances"]["shop"]
    assert code == 1 and status["status"] == "degraded"  # nobody owns the outbox
    assert status["source"] == "servers" and outbox["figures"]["owner"] == "nobody"
    assert outbox["figures"]["unpublished_rows"] == 1 and outbox["figures"]["health"] == "OK"
    assert {"stage": "publish", "reason": "too_large", "events": 1} in status["dead_letters"]
    assert {"table": "outbox_events", "rows": 0} in status["tables"]
    assert status["checks"]["kafka"]["status"] == "ok" and status["checks"]["insert"]["figures"]["lag"] == 0, status["checks"]["insert"]
    text = run(place)
    assert text.returncode == 1 and "no relay owns it" in text.stdout and "no daemon answers" in text.stdout


def test_a_table_that_two_routes_fill_is_told_once_by_the_servers(place):
    database = place.sections()["clickhouse"]["database"]
    more = {"topics": f"{place.prefix}.other.events", "table": f"{database}.outbox_events"}
    status = document(place, route__other=more)[1]
    assert [table for table in status["tables"] if "outbox_events" in table["table"]] == [{"table": "outbox_events", "rows": 0}], status["tables"]
    assert status["checks"]["insert"]["figures"]["lag"] == 0 and status["checks"]["clickhouse"]["status"] == "ok", status["checks"]


def test_owner_and_lag_are_seen_on_the_servers(place):
    relay = place.relay(insert={"enabled": "false"})
    for _ in range(7):
        place.insert_event()
    place.wait_published()
    code, status = document(place)  # its own configuration names no port, so the servers are asked
    outbox = status["checks"]["outbox"]["instances"]["default"]
    assert outbox["figures"]["owner"].startswith("outbox-relay-"), outbox
    assert code == 0, status
    assert sum(part["messages"] for part in status["lag"] if part["topic"].endswith(".post.events")) >= 7
    assert relay.stop() == 0


def test_a_sequence_that_cannot_be_asked_is_told_from_the_servers(place):
    place.relay(insert={"enabled": "false"})
    place.insert_event()
    place.wait_published()
    with another_owner(place.admin_dsn, place.servers.env["POSTGRES_USER"], f"{place.name}_owner") as grant:
        code, status = document(place)
        outbox = status["checks"]["outbox"]["instances"]["default"]
        assert code == 1 and outbox["status"] == "degraded" and outbox["figures"]["health"] == "OK"
        assert outbox["reason"] == f"whether numbers have gone back cannot be told: as the table's owner: {grant}"


def test_what_waits_behind_an_open_transaction_counts_as_lag_on_the_servers(place):
    stranger = Sender(place, transactional=True, **{"transaction.timeout.ms": 600000})
    stranger.producer.begin_transaction()
    stranger.events(post(place), 1, partition=0).flush()
    Sender(place).events(post(place), 100, partition=0).flush()
    status = document(place)[1]
    assert status["source"] == "servers" and status["checks"]["insert"]["figures"]["lag"] == 101, status
    stranger.producer.abort_transaction(30)


def test_a_session_that_holds_the_locks_and_is_no_relay_is_no_owner(place):
    with stranger(place.servers.admin_dsn, place.dsn, f"{place.name}_stranger".replace("-", "_"), application_name="shop") as cursor:
        pid = take_outbox_locks(cursor, 3)
        code, status = document(place)
        assert code == 1 and status["checks"]["outbox"]["instances"]["default"]["reason"] == "no relay owns it"
        take_outbox_locks(cursor, 1)
        code, status = document(place)
    outbox = status["checks"]["outbox"]["instances"]["default"]
    assert code == 2 and outbox["figures"]["owner"] == "nobody" and f"session {pid} of role" in outbox["reason"], outbox
    assert "application_name shop" in outbox["reason"] and f"pg_terminate_backend({pid})" in outbox["reason"]


def test_health_of_an_outbox_decides_the_exit_code(place):
    place.execute("INSERT INTO outbox_events (aggregate_type, aggregate_id, event_type, payload) "
                  "SELECT 'post', gen_random_uuid(), 'post.created', '{}' FROM generate_series(1, 200)")
    assert document(place)[0] == 1
    code, status = document(place, health={"critical_rows": "150"})
    assert code == 2 and status["checks"]["outbox"]["instances"]["default"]["figures"]["health"] == "CRITICAL"
    assert status["checks"]["outbox"]["status"] == "down" and status["checks"]["outbox"]["reason"].startswith("default: "), status["checks"]["outbox"]


def test_a_standby_says_whom_to_ask_and_the_servers_know_the_owner(place):
    """The outbox is stopped in the other replica; this one is well, and all that it says of itself is ok."""
    owner = place.relay("owner", insert={"enabled": "false"})
    place.insert_event()
    place.wait_published()
    owner.wait(lambda: owner.health()["checks"]["outbox"]["instances"]["default"]["figures"].get("watched_by") == "this process", "it watches")
    standby = place.relay("standby", insert={"enabled": "false"})
    standby.wait(lambda: standby.health()["checks"]["publish"]["instances"]["default"]["figures"]["role"] == "standby", "it stands by")
    text = run(place, "--url", standby.url).stdout
    assert "another replica publishes or watches the outbox default: ask that one too, or the servers (--servers)" in text, text
    listen = {"listen": standby.url[len("http://"):]}
    assert document(place, http=listen)[1]["source"] == standby.url, "a daemon answers"
    status = document(place, "--servers", http=listen)[1]
    assert status["source"] == "servers" and "note" not in status
    figures = status["checks"]["outbox"]["instances"]["default"]["figures"]
    assert figures["owner"].startswith("outbox-relay-") and figures["unpublished_rows"] == 0, figures
    assert "elsewhere" not in run(place, "--servers", http=listen).stdout
    assert run(place, "--servers", "--url", standby.url).returncode == 2


def test_a_standby_behind_a_session_that_is_no_relay_sends_nobody_to_another_replica(place):
    with autocommitting(place.dsn) as cursor:
        take_outbox_locks(cursor, 1)
        relay = place.relay("behind", start=False, insert={"enabled": "false"}).start(ready=False)
        relay.wait(lambda: relay.url and "session" in relay.health()["checks"]["publish"]["instances"]["default"].get("reason", ""), "who holds the lock")
        assert "elsewhere" not in run(place, "--url", relay.url).stdout


def test_from_a_daemon(place):
    relay = place.relay()
    place.insert_event()
    place.wait_inserted(1)
    relay.wait(lambda: relay.health()["status"] == "ok", "all is well")
    code, status = document(place, "--url", relay.url)
    assert code == 0 and status["source"] == relay.url and status["checks"]["publish"]["instances"]
    text = run(place, "--url", relay.url + "/")
    assert text.returncode == 0 and relay.url in text.stdout and "breakers" in text.stdout
    assert relay.stop() == 0
    gone = run(place, "--url", relay.url)
    assert gone.returncode == 1 and "no daemon answers" in gone.stdout


def test_servers_that_are_down_are_part_of_the_answer(place):
    code, status = document(place, postgres={"dsn": "host=127.0.0.1 port=1 dbname=x user=y", "connect_timeout": "2s"},
                            clickhouse={"url": "http://127.0.0.1:1"})
    assert code == 2 and status["status"] == "down"
    assert status["checks"]["postgres"]["status"] == "down" and status["checks"]["clickhouse"]["status"] == "down"
    assert status["checks"]["kafka"]["status"] == "ok"


def test_one_of_several_replicas_that_is_down_leaves_what_the_others_tell(place):
    away = "http://127.0.0.1:1"
    code, status = document(place, clickhouse={"url": f"{away}, {place.servers.clickhouse_url}"}, publish={"enabled": "false"})
    check = status["checks"]["clickhouse"]
    assert code == 1 and check["status"] == "degraded" and check["reason"].startswith(away + ": "), status
    assert check["instances"][away]["status"] == "down"
    assert {"table": "outbox_events", "rows": 0} in status["tables"]


def test_a_server_that_does_not_answer_is_waited_for_as_long_as_configured(place):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x user=y"
        code, status = document(place, postgres={"dsn": dsn, "acquire_timeout": "50ms", "connect_timeout": "5m"})
        assert code == 2 and "acquire_timeout" in status["checks"]["postgres"]["reason"]


def test_watch_goes_on_until_it_is_told_to_end(place):
    binary = program(place.binary)
    out = os.path.join(place.folder, "watched")
    with open(out, "wb") as file:
        watching = subprocess.Popen([binary, "status", "--watch", "--json", "--config", config_of(place)], stdout=file, stderr=subprocess.PIPE)
    try:
        def documents():
            with open(out, encoding="utf-8", errors="replace") as file:   # a document may be half written
                return [json.loads(line) for line in file.read().rpartition("\n")[0].splitlines()]
        wait_until(lambda: len(documents()) >= 2, "two rounds", 60)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 1
        assert watching.stderr.read() == b""
    finally:
        watching.kill()
        watching.stderr.close()

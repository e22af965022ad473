# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process: start without servers, signals, reload, the service manager, exit codes."""
import os
import resource
import signal
import socket
import subprocess

import pytest

from c_tests import built
from relaytools.relay import Relay, command, program, wait_until, write_config


@pytest.fixture
def silent_port():
    """A port that accepts connections and never says a word: what a hung server looks like."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(50)
    yield listener.getsockname()[1]
    listener.close()


def sections(port, **changes):
    found = {
        "postgres": {"dsn": f"host=127.0.0.1 port={port} dbname=x user=x", "password": "s3cret-of-postgres"},
        "kafka": {"bootstrap.servers": f"127.0.0.1:{port}"},
        "clickhouse": {"url": f"http://127.0.0.1:{port}", "database": "x", "password": "s3cret-of-clickhouse"},
        "http": {"listen": "127.0.0.1:0"},
        "run": {"drain_timeout": "5s"},
        "log": {"format": "json"},
    }
    for section, keys in changes.items():
        found.setdefault(section, {}).update(keys)
    return found


@pytest.fixture
def hung(tmp_path, silent_port):
    """A relay all of whose servers hang."""
    relay = Relay(str(tmp_path), sections(silent_port))
    relay.start(ready=False)
    relay.wait(lambda: relay.get("/live")[0] == 200, "the relay is up")
    yield relay
    relay.kill()


@pytest.mark.tsan
def test_it_is_up_at_once_and_says_what_is_missing_while_every_server_hangs(hung):
    hung.wait(lambda: hung.get("/health")[0] == 503, "health down")
    assert hung.health()["status"] == "down"
    assert hung.get("/ready")[0] == 503
    assert hung.get("/live")[0] == 200


def test_sigterm_ends_it_within_the_drain_timeout_though_every_server_hangs(hung):
    assert hung.stop(seconds=60) == 0   # what hangs, hangs for ever
    assert hung.events("lifecycle.stopped")


def test_an_outbox_whose_thread_cannot_be_had_ends_the_start(tmp_path, silent_port):
    found = sections(silent_port, insert={"enabled": "false"}, outbox={}, outbox__second={"table": "public.second"})
    found["outbox second"] = found.pop("outbox__second")
    # Before it come those of the alerts, of HTTP and of the first outbox.
    relay = Relay(str(tmp_path), found, environment={"LD_PRELOAD": built("failing_thread.so"), "FAILING_THREAD": "4"})
    relay.start(ready=False)
    try:
        wait_until(lambda: relay.process.poll() is not None, "the end")
        assert relay.process.returncode == 1, relay.log_tail()
        assert 'outbox second: the thread "publish" cannot be started' in relay.events("lifecycle.not_started")[0]["error"]
    finally:
        relay.kill()


@pytest.fixture
def stuck(tmp_path, silent_port):
    """Starts relays that hang in libpq, which reads a service file that has no end: the publish stage and the health watch."""
    fifo, relays = os.path.realpath(tmp_path / "pg_service.conf"), []
    os.mkfifo(fifo)
    end = os.open(fifo, os.O_RDWR)

    def start(drain_timeout):
        found = sections(silent_port, insert={"enabled": "false"}, run={"drain_timeout": drain_timeout})
        found["postgres"]["dsn"] += " service=stuck"
        relay = Relay(str(tmp_path), found, environment={"PGSERVICEFILE": fifo})
        relays.append(relay)
        relay.start(ready=False)
        descriptors = f"/proc/{relay.process.pid}/fd"
        relay.wait(lambda: [os.path.realpath(os.path.join(descriptors, fd)) for fd in os.listdir(descriptors)].count(fifo) == 2,
                   "both threads read the file")
        return relay
    yield start
    for relay in relays:
        relay.kill()
    os.close(end)


def test_threads_that_hang_are_left_behind_within_the_drain_timeout(stuck):
    relay = stuck("5s")
    assert relay.stop(seconds=60) == 0
    assert [line["part"] for line in relay.events("lifecycle.left_behind")] == ["publish", "health watch"]


def test_secrets_are_in_no_log_line_and_in_no_argument(hung):
    hung.wait(lambda: hung.health()["checks"]["postgres"]["status"] != "ok", "postgres is judged")
    assert "s3cret" not in "\n".join(hung.log())
    with open(f"/proc/{hung.process.pid}/cmdline", "rb") as file:
        assert b"s3cret" not in file.read()
    assert "s3cret" not in hung.get("/health")[1] + hung.get("/")[1] + hung.get("/metrics")[1]


def test_a_crash_writes_no_core_file(tmp_path, silent_port):
    """Containers inherit a limit without bound, and a core file has events, passwords and keys."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    relay = Relay(str(tmp_path), sections(silent_port))
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        relay.start(ready=False)
        relay.wait(lambda: relay.get("/live")[0] == 200, "the relay is up")
        assert resource.prlimit(relay.process.pid, resource.RLIMIT_CORE)[0] == 0
    finally:
        relay.kill()
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_a_port_that_is_taken_is_named_with_its_key(tmp_path, silent_port):
    config = write_config(str(tmp_path / "relay.ini"), sections(silent_port, http={"listen": f"127.0.0.1:{silent_port}"}))
    result = command("run", config=config)
    assert result.returncode != 0
    assert f"[http] listen: 127.0.0.1:{silent_port}: Address already in use" in result.stderr
    assert result.stderr.count("[http]") == 1


@pytest.mark.parametrize("changes", ({}, {"publish": {"enabled": "false"}}), ids=("both", "insert"))
def test_wait_ends_it_with_75_when_the_servers_do_not_come(tmp_path, silent_port, changes):
    config = write_config(str(tmp_path / "relay.ini"), sections(silent_port, **changes))
    result = command("run", "--wait", "300ms", config=config)
    assert result.returncode == 75, result.stderr
    assert "--wait" in result.stderr


def test_a_bad_configuration_ends_it_with_78_and_every_mistake(tmp_path):
    config = write_config(str(tmp_path / "relay.ini"), {
        "postgres": {"dns": "x"}, "publish": {"guarantee": "twice"}, "insert": {"linger": "5 parsecs"}})
    result = command("run", config=config)
    assert result.returncode == 78
    for piece in ("dns", "did you mean", "guarantee", "exactly_once", "linger", "parsecs"):
        assert piece in result.stderr, result.stderr
    missing = command("run", config=str(tmp_path / "nowhere.ini"))
    assert missing.returncode == 78 and "nowhere.ini" in missing.stderr


@pytest.mark.parametrize("setting, stage", [
    ({"socket.timeout.ms": "60000"}, "publish"), ({"retries": "0"}, "publish"),
    ({"max.in.flight.requests.per.connection": "10"}, "publish"), ({"max.poll.interval.ms": "10000"}, "insert")], ids=lambda at: next(iter(at)))
def test_settings_of_which_librdkafka_makes_no_client_end_it_with_78(tmp_path, silent_port, setting, stage):
    other = "insert" if stage == "publish" else "publish"
    config = write_config(str(tmp_path / "relay.ini"), sections(silent_port, kafka=setting, **{other: {"enabled": "false"}}))
    result = command("run", "--wait", "1s", config=config)
    assert result.returncode == 78, result.stderr
    assert f"{stage} stage: [kafka]: `" in result.stderr and "lifecycle.not_started" in result.stderr


def test_certificates_that_are_not_there_yet_do_not_end_it(tmp_path, silent_port):
    changes = {"security.protocol": "ssl", "ssl.ca.location": str(tmp_path / "ca.pem")}
    config = write_config(str(tmp_path / "relay.ini"), sections(silent_port, kafka=changes))
    result = command("run", "--wait", "300ms", config=config)
    assert result.returncode == 75, result.stderr


@pytest.mark.parametrize("arguments", [["run", "--nonsense"], ["run", "extra"], ["dance"], [], ["run", "--wait", "soon"]])
def test_bad_usage_is_2(arguments):
    result = command(*arguments)
    assert result.returncode == 2 and result.stderr.strip()


def test_sighup_applies_what_can_change_and_names_the_rest(hung, tmp_path, silent_port):
    write_config(hung.config, sections(silent_port, log={"level": "debug"}, health={"warning_rows": "7"}, insert={"batch_rows": "10"}))
    hung.signal(signal.SIGHUP)
    hung.wait(lambda: hung.events("config.reloaded"), "reloaded")
    live = {(line["section"], line["key"]) for line in hung.events("config.changed")}
    later = {(line["section"], line["key"]) for line in hung.events("config.needs_restart")}
    assert {("log", "level"), ("health", "warning_rows")} <= live
    assert ("insert", "batch_rows") in later

    write_config(hung.config, sections(silent_port, log={"level": "loud"}, health={"warning_rows": "few"}, insert={"batch_rows": "many"}))
    hung.signal(signal.SIGHUP)
    hung.wait(lambda: hung.events("config.reload_failed"), "the bad configuration is refused")
    mistakes = [line["message"] for line in hung.events("config.mistake")]
    assert all(any(word in line for line in mistakes) for word in ("loud", "few", "many")), mistakes
    assert hung.get("/live")[0] == 200


def test_sighup_refuses_settings_of_which_librdkafka_makes_no_client(hung, silent_port):
    write_config(hung.config, sections(silent_port, kafka={"retries": "0"}, health={"warning_rows": "7"}))
    hung.signal(signal.SIGHUP)
    hung.wait(lambda: hung.events("config.reload_failed"), "the bad configuration is refused")
    assert "`retries`" in hung.events("config.reload_failed")[0]["error"]
    assert not hung.events("config.changed") and not hung.events("config.reloaded")


def test_sighup_judges_what_needs_a_restart_by_what_the_process_runs(hung, silent_port):
    def reload(**changed):
        count = len(hung.events("config.reloaded"))
        write_config(hung.config, sections(silent_port, **changed))
        hung.signal(signal.SIGHUP)
        hung.wait(lambda: len(hung.events("config.reloaded")) > count, "reloaded")
        line = hung.events("config.reloaded")[-1]
        return line["live"], line["at_restart"]

    changed = {"health": {"warning_rows": "7"}, "insert": {"batch_rows": "10"}}
    assert reload(**changed) == (1, 1)
    assert reload(**changed) == (0, 1), "still the old value"
    assert reload(health={"warning_rows": "7"}) == (0, 0), "back at what it runs"
    assert reload() == (1, 0)
    for i in range(70):
        assert reload(health={"warning_rows": str(1 + i)}) == (1, 0)
    assert not hung.events("config.reload_failed")


def test_sighup_changes_the_breaker_of_clickhouse(tmp_path, silent_port):
    def found(failures):
        return sections(silent_port, clickhouse={"url": "http://127.0.0.1:1"}, breaker={"clickhouse.failures": failures})
    relay = Relay(str(tmp_path), found("1000"))
    relay.start(ready=False)
    try:
        relay.wait(lambda: relay.get("/health")[0] == 503 and relay.health()["checks"]["clickhouse"]["status"] == "down", "ClickHouse is down")
        assert relay.metric("breaker_state", dependency="clickhouse http://127.0.0.1:1") == 0
        write_config(relay.config, found("1"))
        relay.signal(signal.SIGHUP)
        relay.wait(lambda: relay.metric("breaker_state", dependency="clickhouse http://127.0.0.1:1") == 2, "its breaker is open")
    finally:
        relay.kill()


def test_sighup_names_a_changed_password_and_leaves_it_to_the_next_start(hung, tmp_path, silent_port):
    # The fixture's passwords stand in its configuration; here the same ones come from files.
    files = {}
    for section in ("postgres", "clickhouse"):
        files[section] = tmp_path / section
        files[section].write_text(f"s3cret-of-{section}\n", encoding="utf-8")
    write_config(hung.config, sections(silent_port, **{
        section: {"password": None, "password_file": str(path)} for section, path in files.items()}))
    hung.signal(signal.SIGHUP)
    hung.wait(lambda: hung.events("config.reloaded"), "reloaded")
    assert not hung.events("config.needs_restart")

    for path in files.values():
        path.write_text("an0ther-s3cret\n", encoding="utf-8")
    hung.signal(signal.SIGHUP)
    hung.wait(lambda: len(hung.events("config.reloaded")) == 2, "reloaded again")
    later = {(line["section"], line["key"]) for line in hung.events("config.needs_restart")}
    assert later == {("postgres", "password"), ("clickhouse", "password")}
    assert not hung.events("config.changed")
    assert "s3cret" not in "\n".join(hung.log())


def test_the_service_manager_hears_ready_watchdog_reloading_and_stopping(tmp_path, silent_port):
    path = str(tmp_path / "notify")
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(path)
    notify.setblocking(False)
    heard = []

    def hears(word):
        try:
            while True:
                heard.append(notify.recv(4096).decode())
        except BlockingIOError:
            pass
        return any(word in message for message in heard)

    relay = Relay(str(tmp_path), sections(silent_port), environment={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"})
    relay.start(ready=False)
    try:
        wait_until(lambda: hears("READY=1"), "READY=1")
        wait_until(lambda: hears("WATCHDOG=1"), "WATCHDOG=1")
        heard.clear()
        relay.signal(signal.SIGHUP)
        wait_until(lambda: hears("RELOADING=1"), "RELOADING=1")
        assert any("MONOTONIC_USEC=" in message for message in heard)
        wait_until(lambda: hears("READY=1"), "READY=1 after the reload")
        relay.signal(signal.SIGTERM)
        wait_until(lambda: hears("STOPPING=1"), "STOPPING=1")
        assert relay.stop() == 0
    finally:
        relay.kill()


def test_a_second_sigterm_cuts_the_drain_short(stuck):
    relay = stuck("10m")
    relay.signal(signal.SIGTERM)
    relay.wait(lambda: relay.events("lifecycle.stopping"), "stopping")
    relay.signal(signal.SIGTERM)
    assert relay.process.wait(60) == 0
    assert any("cut short" in line["message"] for line in relay.events("lifecycle.stopping"))


def test_output_that_cannot_be_written_is_said(tmp_path):
    config = write_config(str(tmp_path / "relay.ini"), sections(1))

    def complaint(stdout):
        result = subprocess.run([program(), "check", "--config", config], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60)
        return result.returncode, result.stderr.splitlines()[-1:]
    said = (1, ["outbox-relay check: not all of the output could be written"])
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as nobody_reads:
        assert complaint(nobody_reads) == said
    with open("/dev/full", "wb") as full:
        assert complaint(full) == said


def test_version_and_help():
    assert command("--version").stdout.startswith("outbox-relay 0.")
    text = command("--help").stdout
    for name in ("run", "check", "migrate", "status", "dead-letters", "replay"):
        assert name in text
        assert os.linesep in command(name, "--help").stdout

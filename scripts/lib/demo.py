# SPDX-License-Identifier: Apache-2.0
"""What scripts/demo runs once the machine is ready; see `scripts/demo --help`."""
import argparse
import math
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from relaytools.last_will import last_will  # noqa: E402
from relaytools.place import Place  # noqa: E402
from relaytools.relay import wait_until  # noqa: E402
from relaytools.servers import Servers  # noqa: E402

EVENTS_ONCE = 20000


def say(text=""):
    print(text, flush=True)


class Interrupted(Exception):
    pass


def interrupt(*_):
    raise Interrupted


def quantile(relays, metric, share, before):
    """The upper bound of the bucket that holds the share of what was observed since `before` (a dict kept by the caller)."""
    counts = {}
    for relay in relays:
        for line in relay.get("/metrics")[1].splitlines():
            match = re.match(rf'outbox_relay_{metric}_bucket{{.*le="([^"]+)"}} (\S+)$', line)
            if match:
                edge = float(match.group(1).replace("+Inf", "inf"))
                counts[edge] = counts.get(edge, 0.0) + float(match.group(2))
    fresh = {edge: count - before.get(edge, 0.0) for edge, count in counts.items()}
    count = fresh.get(float("inf"), 0.0)
    found = None
    for edge in sorted(fresh):
        if count > 0 and fresh[edge] >= share * count:
            found = edge
            break
    return found, counts


def total(relays, metric):
    """Of the relays that answer: somebody may kill one to see what happens."""
    return sum(value for value in (relay.metric(metric) for relay in relays) if not math.isnan(value))


def milliseconds(edge):
    if edge is None:
        return "-"
    return "> 60 s" if edge == float("inf") else f"<= {edge * 1000:g} ms"


def addresses(place, relays):
    servers = place.servers
    say()
    say("Where to look while it runs:")
    for relay in relays:
        say(f"  {relay.name:<11} {relay.url}/  (status page; /health, /metrics)   log {relay.log_path}")
    say(f"  PostgreSQL  psql '{place.dsn}'   TABLE outbox_status;")
    say(f"  Kafka       kcat -b {servers.bootstrap} -t {place.topics[0]} -C -o -5 -f '%k %h %s\\n'")
    say(f"  ClickHouse  curl -s {servers.clickhouse_url} -H 'X-ClickHouse-User: {servers.env['CLICKHOUSE_USER']}' -H 'X-ClickHouse-Key: "
        f"{servers.env['CLICKHOUSE_PASSWORD']}' -d 'SELECT event_type, count() FROM {place.name}.outbox_events GROUP BY 1'")
    say()


def watch(place, relays, workload, seconds, arrived=lambda: False):
    """One line a second until the time is over, all has arrived, or somebody presses Ctrl-C."""
    say(f"{'written/s':>10} {'to Kafka/s':>11} {'to CH/s':>9} {'backlog':>8} {'rows in CH':>11}  "
        f"{'commit->Kafka p50 / p99':>26}  {'commit->ClickHouse p99':>22}")
    began = last = time.monotonic()
    written = published = inserted = 0.0
    seen_publish, seen_end = {}, {}
    while seconds is None or time.monotonic() - began < seconds:
        time.sleep(max(0.0, last + 1.0 - time.monotonic()))
        now = time.monotonic()
        totals = workload.committed, total(relays, "events_published_total"), total(relays, "events_inserted_total")
        span = now - last
        p50, _ = quantile(relays, "publish_latency_seconds", 0.5, seen_publish)
        p99, seen_publish = quantile(relays, "publish_latency_seconds", 0.99, seen_publish)
        end99, seen_end = quantile(relays, "end_to_end_seconds", 0.99, seen_end)
        say(f"{(totals[0] - written) / span:>10.0f} {(totals[1] - published) / span:>11.0f} "
            f"{(totals[2] - inserted) / span:>9.0f} {place.outbox_rows():>8} {place.clickhouse_rows():>11}  "
            f"{milliseconds(p50) + ' / ' + milliseconds(p99):>26}  {milliseconds(end99):>22}")
        written, published, inserted = totals
        last = now
        if arrived():
            return


def run_once(place, relays):
    say(f"demo: writing {EVENTS_ONCE:,} events with eight writers ...")
    workload = place.workload(writers=8, events=EVENTS_ONCE).start()
    watch(place, relays, workload, 180,
          lambda: not workload.running() and place.outbox_rows() == 0 and place.clickhouse_rows() >= EVENTS_ONCE)
    workload.join(10)
    if place.clickhouse_rows() < EVENTS_ONCE:
        say(f"demo: not all events have arrived within three minutes; the log of the relay ends with\n{relays[0].log_tail(12)}")
    say("demo: reading Kafka and ClickHouse back ...")
    result = place.audit()
    say()
    say(result.text())
    exact = result.ok() and result.committed == result.published == result.inserted == EVENTS_ONCE
    say("each event arrived exactly once in Kafka and in ClickHouse" if exact else "NOT exactly once: see above")
    return 0 if exact else 1


def stop(place, workload):
    """The writers, then the relays; whatever does not end is ended."""
    try:
        if workload is not None:
            workload.stop()
        for relay in place.relays if place else []:
            relay.stop()
    finally:
        if place is not None:
            place.close()


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo", add_help=False)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--replicas", type=int, default=2, choices=range(1, 9))
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    servers = Servers(quiet=False)
    with last_will(servers.folder, "stop" if options.keep else "reset"):
        return run(servers, options)


def run(servers, options):
    """Returns the exit code. Nothing runs any longer then."""
    place, workload = None, None
    code = 0
    try:
        say("demo: starting PostgreSQL, Kafka and ClickHouse (the first time they are fetched: about 230 MB) ...")
        servers.start()
        place = Place(servers, "demo")
        relays = [place.relay(f"relay-{n + 1}") for n in range(options.replicas)]
        addresses(place, relays)
        say("demo: waiting until a relay owns the outbox ...")
        wait_until(lambda: total(relays, "outbox_owned") >= 1, "a relay that owns the outbox", 60)
        if options.once:
            code = run_once(place, relays)
        else:
            workload = place.workload(writers=8, rate=options.rate or None).start()
            watch(place, relays, workload, options.seconds)
    except Interrupted:
        say()
    except (RuntimeError, TimeoutError) as error:
        say(f"demo: {error}")
        code = 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        say("demo: stopping everything ...")
        try:
            stop(place, workload)
        except TimeoutError as error:
            say(f"demo: {error}")
            code = 1
        finally:
            servers.quiet = True
            if options.keep:
                servers.command("stop")
                say(f"demo: logs and data are in {servers.folder}")
            else:
                servers.remove()
    return code


if __name__ == "__main__":
    sys.exit(main())

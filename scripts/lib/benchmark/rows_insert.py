# SPDX-License-Identifier: Apache-2.0
"""The insert stage: messages of a topic into ClickHouse, against its three parts alone on the same messages."""
import datetime
import time

from . import machine
from .lab import DOCUMENT, median
from .results import Result, thousands

TYPED_TABLE = """CREATE TABLE {db}.orders (id UUID, user UInt64, amount Decimal(18, 2), currency LowCardinality(String), op Int8,
 at DateTime64(6, 'UTC'), ok Bool, tags Array(String), zip String, score Float64, note String, trace String,
 kafka_topic LowCardinality(String), kafka_partition Int32, kafka_offset Int64, INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1)
 ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY (user, at) SETTINGS non_replicated_deduplication_window = 100000"""
TYPED_COLUMNS = {"id": "$.id", "user": "$.user", "amount": "$.amount", "currency": "$.currency", "op": "$.op: insert=1 delete=-1", "at": "$.at",
                 "ok": "$.ok", "tags": "$.tags", "zip": "$.address.zip", "score": "$.score", "note": "$.note", "trace": "$.meta.trace"}


def insert(lab):
    """Both routes: elapsed against the sum of the parts, CPU of a row against parsing and encoding alone, memory."""
    rows, results, raw = lab.sizes.insert_rows, [], {}
    with lab.place("insert") as place:
        place.clickhouse(TYPED_TABLE)
        lab.produce(place, rows, payload=DOCUMENT, chunk=200_000)
        for route in ("default", "typed"):
            rounds = [_round(lab, place, route, rows, number) for number in range(min(3, lab.sizes.rounds))]
            raw[route] = rounds
            results += _judge(route, rows, rounds)
    return results, raw


def sections(place, route):
    # One table at a time: two routes that match a topic would both be filled.
    if route == "default":
        return {}
    return {"route default": {"enabled": "false"},
            "route orders": {"topics": f"{place.prefix}.order.events", "table": "orders",
                             "columns": ", ".join(f"{name} = {source}" for name, source in TYPED_COLUMNS.items())}}


def table_of(route):
    return "outbox_events" if route == "default" else "orders"


def _round(lab, place, route, rows, number):
    changes = sections(place, route)
    place.write_program_config(changes)
    parts = {"consume": lambda: lab.program("consume_events", place, "--prefix", place.prefix, "--rows", rows)["seconds"],
             "parts": lambda: _parts(lab, place, route, rows), "relay": lambda: _relay(lab, place, route, rows, changes)}
    order = list(parts)[number % 3:] + list(parts)[:number % 3]
    taken = {name: parts[name]() for name in order}
    taken["sum"] = taken["consume"] + taken["parts"]["encode"] + taken["parts"]["insert"]
    lab.say(f"  {route}, round {number + 1}: consume {taken['consume']:.2f} s + encode {taken['parts']['encode']:.2f} s + insert "
            f"{taken['parts']['insert']:.2f} s; relay {taken['relay']['seconds']:.2f} s ({taken['relay']['seconds'] / taken['sum']:.2f})")
    return taken


def _parts(lab, place, route, rows):
    place.clickhouse(f"TRUNCATE TABLE {{db}}.{table_of(route)}")
    return lab.program("insert_parts", place, "--rows", rows, *lab.shape(DOCUMENT))


def _relay(lab, place, route, rows, changes):
    return run_insert_once(lab, place, [table_of(route)], rows, changes)


def run_insert_once(lab, place, tables, rows, changes):
    """`seconds` from the moment at which the group has given the relay its partitions until every row of every table can be selected, so
    read-backs, the first offset commit and the last linger are in it; `start` is what was before, from exec on: no part alone has to join."""
    for table in tables:
        place.clickhouse(f"TRUNCATE TABLE {{db}}.{table}")
    place.groups += 1
    insert_section = {"group_id": f"{place.name}-{place.groups}", "linger": "1s"}
    began = time.time()
    relay = lab.relay(place, stages=("insert",), ready=False, insert=insert_section, **changes)
    first, waiting = None, list(tables)

    def done():
        nonlocal first
        count = place.clickhouse_rows(waiting[0])
        first = time.time() - began if count and first is None else first
        if count >= rows:
            del waiting[0]
        elif first is not None:
            # Asking costs the server a millisecond and a half, which no part alone has to bear: the further the end is, the seldomer.
            time.sleep(min(1.0, (rows - count) * (time.time() - began) / max(count, 1) / 4))
        return not waiting
    try:
        use = machine.Use({"relay": (relay.process.pid, False)} | lab.pids())
        relay.wait(done, f"{rows} rows in {', '.join(tables)}", 900)
        ended = time.time()
        assigned = datetime.datetime.fromisoformat(relay.events("insert.assigned")[0]["time"]).timestamp()
        used, peak = use.seconds(), machine.memory_mib(relay.process.pid)
    finally:
        relay.stop()
    for table in tables:
        count = place.clickhouse_rows(table)
        if count != rows:
            raise RuntimeError(f"{count} rows in {table} instead of {rows}")
    seconds = ended - assigned
    return {"seconds": seconds, "start": assigned - began, "first": first, "cpu": used, "cpu_us": used["relay"] / rows * 1e6, "peak_mib": peak,
            "rate": rows / seconds}


def _judge(route, rows, rounds):
    name = "default route" if route == "default" else "typed route, 12 columns"
    ratios = [one["relay"]["seconds"] / one["sum"] for one in rounds]
    cpu = [one["relay"]["cpu_us"] / (one["parts"]["encode_cpu"] / rows * 1e6) for one in rounds]
    middle = {part: median([one["parts"][part] for one in rounds]) for part in ("encode", "insert")}
    seconds = median([one["relay"]["seconds"] for one in rounds])
    start = median([one["relay"]["start"] for one in rounds])
    results = [Result(f"insert stage, {thousands(rows)} rows, {name}, elapsed",
                      f"{seconds:.2f} s ({thousands(rows / seconds)} rows/s), joined after {start:.2f} s",
                      f"consume {median([one['consume'] for one in rounds]):.2f} s + encode {middle['encode']:.2f} s + insert {middle['insert']:.2f} s",
                      median(ratios), 0.9, spread=(min(ratios), max(ratios))),
               Result(f"CPU of the relay for a row, {name}", f"{median([one['relay']['cpu_us'] for one in rounds]):.2f} us",
                      f"parse and encode {median([one['parts']['encode_cpu'] for one in rounds]) / rows * 1e6:.2f} us", median(cpu),
                      2.0 if route == "typed" else None, spread=(min(cpu), max(cpu)))]
    peak = max(one["relay"]["peak_mib"] for one in rounds)
    results.append(Result(f"peak memory, inserting {thousands(rows)} rows, {name}", f"{peak:.0f} MiB", "", peak / 128, 1.0, shown="<= 64 MiB + 2 x batch_bytes = 128 MiB"))
    return results

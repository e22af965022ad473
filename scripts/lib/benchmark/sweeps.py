# SPDX-License-Identifier: Apache-2.0
"""How cost grows with the work: the drain's rate over the size of events, the number of aggregates, topics, partitions and
outboxes; the insert stage's over the number of routes. Each is a plot in the document; none has a goal."""
from .lab import PAYLOAD
from .results import Result, thousands
from .rows_insert import run_insert_once

GUARANTEE = "exactly_once"


def sweeps(lab):
    rows, plots, results = min(lab.sizes.rows, 500_000), [], []
    for sweep in (_sizes, _aggregates, _topics, _partitions, _outboxes, _routes):
        name, title, x_name, series = sweep(lab, rows)
        plots.append({"name": name, "title": title, "x": x_name, "y": "events/s", "series": series})
        for key, points in series.items():
            first, last = points[0], points[-1]
            results.append(Result(f"{title}: {key}", f"{thousands(last[1])}/s at {thousands(last[0])}", f"{thousands(first[1])}/s at {thousands(first[0])}",
                                  last[1] / first[1]))
            lab.say(f"  {name}, {key}: " + ", ".join(f"{thousands(x)}: {thousands(y)}" for x, y in points))
    return results, {"plots": plots}


def _drained(lab, place, rows, **shape):
    """The second drain: in the first one the broker makes the files of new partitions and registers them in a transaction."""
    for _ in range(2):
        lab.fill(place, rows, **shape)
        rate = lab.drain(place, GUARANTEE)["rate"]
    return rate


def _sizes(lab, rows):
    points, alone = [], []
    with lab.place("sizes") as place:
        for size in (100, 300, 1000, 10_000, 100_000):
            count = max(2000, min(rows, int(400e6 / (size + 300))))
            points.append((size, _drained(lab, place, count, payload=size)))
            produced = lab.produce(place, count, payload=size, chunk=max(1000, int(400e6 / size)))
            lab.fill(place, count, payload=size)
            discarded = lab.discard(place)
            alone.append((size, count / (produced["seconds"] + discarded["seconds"])))
    return "sweep-size", "Drain rate over the size of an event", "bytes of payload", {"relay, exactly_once": points, "its two parts in line": alone}


def _aggregates(lab, rows):
    points = []
    with lab.place("aggregates") as place:
        for count in (1, 100, 10_000, 1_000_000):
            points.append((count, _drained(lab, place, rows, aggregates=count)))
    return "sweep-aggregates", "Drain rate over the number of aggregates", "aggregates", {"relay, exactly_once": points}


def _topics(lab, rows):
    points = []
    for count in (1, 10, 100, 500):
        names = ["order"] + [f"order{number}" for number in range(1, count)]
        with lab.place("topics", partitions=1, topics=names) as place:
            points.append((count, _drained(lab, place, rows, topics=count)))
    return "sweep-topics", "Drain rate over the number of topics", "topics of one partition", {"relay, exactly_once": points}


def _partitions(lab, rows):
    points = []
    for count in (1, 8, 50, 200):
        with lab.place("partitions", partitions=count) as place:
            points.append((count, _drained(lab, place, rows)))
    return "sweep-partitions", "Drain rate over the number of partitions", "partitions of one topic", {"relay, exactly_once": points}


def _outboxes(lab, rows):
    points = []
    for count in (1, 2, 4, 8):
        tables = ["public.outbox_events"] + [f"public.outbox_{number}" for number in range(1, count)]
        with lab.place("outboxes") as place:
            sections = {"outbox": {"table": tables[0]}}
            for number, table in enumerate(tables[1:], 1):
                place.execute("SELECT outbox_relay.create_outbox(%s)", table)
                sections[f"outbox__o{number}"] = {"table": table}
            for table in tables:
                lab.fill(place, rows // count, table)
            points.append((count, lab.drain(place, GUARANTEE, tables, **sections)["rate"]))
    return "sweep-outboxes", "Drain rate over the number of outboxes", "outboxes", {"relay, exactly_once": points}


def _routes(lab, rows):
    """The same events into 1 to 50 tables: each message goes to every route, so rows in ClickHouse are counted."""
    points = []
    for count in (1, 5, 20, 50):
        with lab.place("routes") as place:
            messages = max(5000, rows // count)
            lab.produce(place, messages, payload=PAYLOAD)
            sections = {"route default": {"enabled": "false"}}
            for number in range(count):
                place.clickhouse(f"CREATE TABLE {{db}}.copy_{number} AS {{db}}.outbox_events")
                sections[f"route copy{number}"] = {"topics": f"{place.prefix}.order.events", "table": f"copy_{number}", "columns": COPY_COLUMNS}
            seconds = run_insert_once(lab, place, [f"copy_{number}" for number in range(count)], messages, sections)["seconds"]
            points.append((count, messages * count / seconds))
    return "sweep-routes", "Rows inserted over the number of routes", "routes of one topic", {"relay, exactly_once": points}


COPY_COLUMNS = ("event_id = header.event_id, event_type = header.event_type, aggregate_type = header.aggregate_type, aggregate_id = header.aggregate_id, "
                "payload = kafka.value, created_at = header.created_at, seq = header.seq")

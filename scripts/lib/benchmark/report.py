# SPDX-License-Identifier: Apache-2.0
"""Where figures go: the table on the terminal, a file of raw figures, docs/performance.md between its markers, plots.

docs/performance/figures.json keeps, row by row, the last figures that were meant for the document, each with the
conditions of its own run: a run of some rows replaces those and leaves the others. Every ratio is of one run."""
import dataclasses
import json
import os
import re
import time

from relaytools.servers import ROOT

from . import plots
from .results import Result

DOCUMENT = os.path.join(ROOT, "docs/performance.md")
FOLDER = os.path.join(ROOT, "docs/performance")
FIGURES = os.path.join(FOLDER, "figures.json")
BEGIN, END = "<!-- figures of scripts/bench: begin -->", "<!-- figures of scripts/bench: end -->"


def as_data(name, results, raw, conditions):
    return {"when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "row": name, "conditions": conditions,
            "results": [dataclasses.asdict(one) for one in results], "raw": raw}


def results_of(data):
    return [Result(**one) for one in data["results"]]


def table(results):
    """Lines for a terminal."""
    rows = [(one.what, one.measured, one.reference, one.ratio_text(), one.goal_text(), one.verdict()) for one in results]
    head = ("what", "measured", "against", "ratio", "goal", "holds")
    widths = [min(70, max(len(row[i]) for row in [head] + rows)) for i in range(6)]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip() for row in [head, tuple("-" * w for w in widths)] + rows]


def save(path, data):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, sort_keys=True)
        file.write("\n")
    os.replace(path + ".new", path)


def load(path):
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write_document(new, order):
    """Takes the rows of this run into the figures and writes document and plots anew."""
    figures = load(FIGURES) | new
    save(FIGURES, figures)
    names = [name for name in order if name in figures] + sorted(set(figures) - set(order))
    text = [BEGIN, ""] + _tables(figures, names) + _plots(figures) + [END]
    with open(DOCUMENT, encoding="utf-8") as file:
        before = file.read()
    if BEGIN not in before or END not in before:
        raise RuntimeError(f"{DOCUMENT} has lost its markers")
    after = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: "\n".join(text), before, flags=re.S)
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(after)


def _tables(figures, names):
    out = []
    for _, group in sorted(_by_conditions(figures, names).items()):
        first = figures[group[0]]
        revisions = sorted({figures[name]["conditions"]["revision"] for name in group})
        out += [_conditions(first["conditions"], [figures[name]["when"] for name in group], revisions), "",
                "| what | measured | against | ratio | goal | holds |", "|---|---|---|---|---|---|"]
        for name in group:
            for one in results_of(figures[name]):
                out.append("| " + " | ".join((one.what, one.measured, one.reference, one.ratio_text(), one.goal_text(), one.verdict())) + " |")
        out.append("")
    return out


def _by_conditions(figures, names):
    """Rows with the same conditions share a table; the load at the start and the revision may differ."""
    groups = {}
    for name in names:
        shown = dict(figures[name]["conditions"])
        shown.pop("load_before", None)
        shown.pop("revision", None)
        groups.setdefault((names.index(name) if name in ("peers",) else -1, json.dumps(shown, sort_keys=True)), []).append(name)
    return groups


def _conditions(conditions, times, revisions):
    sizes = conditions["sizes"]
    days = sorted(times)
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return (f"Measured {when}, sizes `{sizes['name']}`: {conditions['cores']} cores ({conditions['cpu']}), {conditions['memory_gib']:.0f} GiB, "
            f"Linux {conditions['kernel']}; PostgreSQL {conditions['postgres']}; Apache Kafka {conditions['kafka']}; ClickHouse {conditions['clickhouse']}; "
            f"librdkafka {conditions['librdkafka']}; relay {', '.join(revisions)}. Servers, load and relay share the cores. "
            "A ratio is the median of alternating rounds, with the lowest and highest in brackets.")


def _plots(figures):
    out, made = [], {}
    if "drain" in figures:
        made["drain"] = _drain_plot(figures["drain"]["raw"]["rounds"])
    if "latency" in figures:
        made["latency"] = _latency_plot(figures["latency"]["raw"])
    for name, data in figures.items():
        for plot in data["raw"].get("plots", []) if isinstance(data["raw"], dict) else []:
            made[plot["name"]] = plots.lines(plot["title"], plot["x"], plot["y"], {key: [tuple(p) for p in points] for key, points in plot["series"].items()})
    for name, text in made.items():
        with open(os.path.join(FOLDER, f"{name}.svg"), "w", encoding="utf-8") as file:
            file.write(text)
        title = re.search(r'aria-label="([^"]*)"', text).group(1)
        out += [f"![{title}](performance/{name}.svg)", ""]
    return out


def _middle(rounds, pick):
    values = sorted(pick(one) for one in rounds)
    return values[len(values) // 2]


def _drain_plot(rounds):
    parts = [("discard", _middle(rounds, lambda r: r["discard"]["seconds"])), ("produce", _middle(rounds, lambda r: r["produce"]["seconds"]))]
    rows = [("its two parts alone", parts)]
    rows += [(f"relay, {name}", [("relay", _middle(rounds, lambda r, n=name: r[n]["seconds"]))]) for name in ("at_least_once", "exactly_once")]
    return plots.bars("Draining a backlog: seconds", rows, "s")


def _latency_plot(raw):
    rows = []
    for guarantee, pairs in raw.items():
        for percentile in ("p50", "p99"):
            rows.append((f"librdkafka alone, {percentile}", [("produce and ack", _middle(pairs, lambda p: p[1]["round_trip"][percentile]))]))
            rows.append((f"relay, {guarantee}, {percentile}", [("commit to consumer", _middle(pairs, lambda p: p[0]["visible"][percentile]))]))
    return plots.bars("500 events/s: milliseconds", rows, "ms")

# SPDX-License-Identifier: Apache-2.0
"""How long one event takes: under a steady rate, after silence, after the start of the process."""
import time

import confluent_kafka

from relaytools.relay import wait_until

from .lab import median
from .results import Result

RATE = 500
WARM_SECONDS = 3


def latency(lab):
    """From the writer's COMMIT to the consumer, against librdkafka's own round trip, at 500 events a second."""
    events = int(RATE * (lab.sizes.latency_seconds + WARM_SECONDS))
    return _compare(lab, RATE, events, RATE * WARM_SECONDS, f"commit to consumer, {RATE} events/s", min(3, lab.sizes.rounds), (2.0, 3.0))


def wakeup(lab):
    """The same, one event after a silence."""
    gap = lab.sizes.gap_seconds
    return _compare(lab, 1 / gap, lab.sizes.gap_events + 1, 1, f"one event after {gap:.0f} s of silence", 1, (2.0, None))


def _compare(lab, rate, events, skip, what, rounds, goals):
    taken, results = {"at_least_once": [], "exactly_once": []}, []
    with lab.place("latency") as place:
        for number in range(rounds):
            for guarantee, pairs in taken.items():
                identity = "bench-latency" if guarantee == "exactly_once" else None
                reference = lab.latency(place, "broker", rate, events, skip, transactional_id=identity)
                relay = lab.relay(place, guarantee)
                try:
                    pairs.append((lab.latency(place, "outbox", rate, events, skip, writers=4 if rate > 10 else 1), reference))
                finally:
                    relay.stop()
                own, theirs = pairs[-1][0]["visible"], reference["round_trip"]
                lab.say(f"  round {number + 1}, {guarantee}: p50 {own['p50']:.2f} / {theirs['p50']:.2f} ms, p99 {own['p99']:.2f} / {theirs['p99']:.2f} ms")
                if pairs[-1][0]["missing"]:
                    raise RuntimeError(f"{pairs[-1][0]['missing']} events never came")
    for guarantee, pairs in taken.items():
        for percentile, goal in zip(("p50", "p99"), goals):
            if goal is None:
                continue
            own, theirs = median([one["visible"][percentile] for one, _ in pairs]), median([two["round_trip"][percentile] for _, two in pairs])
            ratios = [one["visible"][percentile] / two["round_trip"][percentile] for one, two in pairs]
            results.append(Result(f"{what}, {guarantee}, {percentile}", f"{own:.2f} ms", f"produce and ack {theirs:.2f} ms", median(ratios), goal,
                                  spread=(min(ratios), max(ratios))))
    return results, taken


def start(lab):
    """From exec to the first event that a consumer of committed records gets; the servers run, rows wait."""
    times = {"at_least_once": [], "exactly_once": []}
    with lab.place("start") as place:
        for guarantee, found in times.items():
            for _ in range(lab.sizes.starts):
                found.append(_start_once(lab, place, guarantee))
            lab.say(f"  {guarantee}: " + ", ".join(f"{one:.3f}" for one in found) + " s")
    return [Result(f"start to first event, {guarantee}", f"{median(found):.3f} s (at most {max(found):.3f})", "", median(found) / 0.3, 1.0, shown="<= 0.3 s")
            for guarantee, found in times.items()], times


def _start_once(lab, place, guarantee):
    lab.fill(place, 100, settle=False)
    consumer = _consumer_at_ends(lab, place)
    began = time.monotonic()
    relay = lab.relay(place, guarantee, ready=False)
    try:
        wait_until(lambda: _is_event(consumer.poll(0.5)), "the first event", 60, every=0)
        took = time.monotonic() - began
        wait_until(lambda: place.outbox_rows() == 0, "the rest", 60)
    finally:
        consumer.close()
        relay.stop()
    return took


def _is_event(message):
    return message is not None and message.error() is None


def _consumer_at_ends(lab, place):
    """One that has found the end of each partition: a new client needs a second until its first fetch, which is not the relay's."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": lab.servers.bootstrap, "group.id": f"{place.name}-start", "enable.auto.commit": False,
                                         "isolation.level": "read_committed", "fetch.wait.max.ms": 20, "enable.partition.eof": True})
    partitions, ended = place.ends(), set()
    consumer.assign(partitions)

    def at_ends():
        message = consumer.poll(0.1)
        if message is not None and message.error() is not None and message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
            ended.add((message.topic(), message.partition()))
        return len(ended) == len(partitions)

    wait_until(at_ends, "a consumer at the ends of all partitions", 60, every=0)
    return consumer

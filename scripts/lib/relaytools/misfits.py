# SPDX-License-Identifier: Apache-2.0
"""What a place of the torture bench has whose relays make dead letters: a column of outbox_events that a tenth of the events do not
fit, a topic for copies of the dead letters, and a second route, whose table is missing until open(). Until then that route holds all
offsets back, so whoever takes a partition over has nothing but what its first INSERT has waited for."""
from .relay import wait_until
from .workload import PAYLOAD_BYTES

FITS = PAYLOAD_BYTES * 9 // 10      # bytes of text
TABLE = "late"
COLUMNS = ("event_id", "event_type", "aggregate_type", "aggregate_id", "created_at", "seq")


class Misfits:
    def __init__(self, place):
        self.place, self.copies = place, f"{place.name}-copies"
        place.servers.create_topics([self.copies], 1)
        place.clickhouse(f"ALTER TABLE {{db}}.outbox_events ADD COLUMN text FixedString({FITS})")

    def sections(self):
        """The default route names its columns, so the built-in ones go."""
        mapped = dict({name: f"header.{name}" for name in COLUMNS}, payload="kafka.value")
        return {"insert": {"dead_letter_topic": self.copies},
                "route__default": dict(mapped, text="$.text"),
                f"route__{TABLE}": dict(mapped, topics=f"^{self.place.prefix}\\.[^.]+\\.events$", table=TABLE)}

    def open(self):
        """Makes the table that is missing; it takes every event."""
        self.place.clickhouse(f"CREATE TABLE {{db}}.{TABLE} AS {{db}}.outbox_events")
        self.place.clickhouse(f"ALTER TABLE {{db}}.{TABLE} DROP COLUMN text")

    def complaints(self, seconds=60):
        """The second table has each event that was committed, once, and the dead letters are those that do not fit, with the reason. To be
        asked when nobody writes and relays run: the two tables are filled by themselves. What outbox_events lacks is the audit's."""
        try:
            wait_until(lambda: not self._wrong(), f"{TABLE} and the dead letters complete", seconds, every=0.3)
        except TimeoutError:
            return self._wrong()
        return []

    def _wrong(self):
        committed = self.place.execute("SELECT count(*) FROM workload.journal")[0][0]
        rows, events, misfits = map(int, self.place.clickhouse("SELECT count(), uniqExact(event_id), "
            f"countIf(length(JSONExtractString(payload, 'text')) > {FITS}) FROM {{db}}.{TABLE}").split())
        aside = [line.split("\t") for line in self.place.clickhouse(
            "SELECT target, reason, length(JSONExtractString(ifNull(value, ''), 'text')) "
            "FROM {db}.outbox_relay_dead_letters FORMAT TSV").splitlines()]
        odd = [letter for letter in aside if letter[:2] != ["outbox_events", "too_long"] or int(letter[2]) <= FITS]
        return [text for wrong, text in (
            (rows != events or events != committed, f"table {TABLE} has {rows} rows of {events} events, {committed} were committed"),
            (len(aside) != misfits, f"{len(aside)} dead letters of {misfits} events that do not fit"),
            (misfits == 0, "each event has fitted"),
            (odd, f"{len(odd)} dead letters of events that fit, or with another reason, as {odd[:1]}")) if wrong]

# SPDX-License-Identifier: Apache-2.0
"""A seeded sequence of faults: one, or two that overlap, then a measured recovery, then some time in peace. The same
seed gives the same sequence; what it meets depends on the machine's timing."""
import collections
import random
import statistics
import time

from .cluster_faults import FAULTS
from .bench import BenchError

OVERLAP_SHARE = 0.25
RECOVERY_LIMIT = 120.0


class Tally:
    """What one kind of fault did: how often it was applied, how often it hit, how long recovery took."""

    def __init__(self):
        self.count = self.hits = 0
        self.recoveries = []


class Schedule:
    def __init__(self, bench, seed, names=None, say=print, patience=RECOVERY_LIMIT):
        self.bench, self.random, self.say, self.patience = bench, random.Random(f"faults/{seed}"), say, patience
        self.tallies = collections.defaultdict(Tally)
        chosen = [FAULTS[name] for name in names] if names else list(FAULTS.values())
        self.faults = [each for each in chosen if each.is_possible(bench)]
        self.began = time.monotonic()

    def run(self, seconds):
        self.began = time.monotonic()
        while time.monotonic() - self.began < seconds:
            self.pause(self.random.choice((self.random.uniform(0.0, 0.5), self.random.uniform(0.5, 3.0))))
            self.strike(self.draw())

    def draw(self):
        first = self._weighted(self.faults)
        if self.random.random() >= OVERLAP_SHARE:
            return [first]
        others = [each for each in self.faults if not each.touches & first.touches]
        return [first, self._weighted(others)] if others else [first]

    def _weighted(self, faults):
        return self.random.choices(faults, [each.weight for each in faults])[0]

    @staticmethod
    def pause(seconds):
        time.sleep(seconds)

    def strike(self, faults):
        """Applies them together, fixes each at its time, and measures the recovery from then on."""
        label = " + ".join(each.name for each in faults)
        at = time.monotonic() - self.began
        hits = self._play(faults)
        self.bench.revive()
        healed = time.monotonic()
        try:
            took = self.bench.canary(self.patience)
        except BenchError as error:
            raise BenchError(f"no recovery, and nothing moved for {self.patience:g} s, after {label} at {at:.1f} s: {error}") from None
        self.say(f"{at:8.1f} s  {label:<48} {healed - self.began - at:5.1f} s, hits {'+'.join(str(n) for n in hits):<6} recovered in {took:.2f} s")
        for each in faults:
            self.tallies[each.name].recoveries.append(took)

    def _play(self, faults):
        """Advances the faults' generators, each at its own time. Returns the hits of each."""
        running = {}
        hits = [0] * len(faults)
        for index, each in enumerate(faults):
            self.tallies[each.name].count += 1
            running[index] = (time.monotonic(), each.begin(self.bench, random.Random(self.random.random())))
        while running:
            index = min(running, key=lambda i: running[i][0])
            wake, generator = running[index]
            self.pause(max(0.0, wake - time.monotonic()))
            try:
                running[index] = (time.monotonic() + next(generator), generator)
            except StopIteration as stopped:
                hits[index] = stopped.value or 0
                self.tallies[faults[index].name].hits += hits[index]
                del running[index]
            except Exception as error:
                raise BenchError(f"the fault {faults[index].name} itself failed: {type(error).__name__}: {error}") from error
        return hits

    def table(self):
        lines = [f"{'fault':<28} {'count':>6} {'hits':>8} {'recovery median':>16} {'max':>8}"]
        for name in sorted(self.tallies):
            tally = self.tallies[name]
            times = tally.recoveries
            lines.append(f"{name:<28} {tally.count:>6} {tally.hits:>8} "
                         + (f"{statistics.median(times):>14.2f} s {max(times):>6.2f} s" if times else f"{'-':>16} {'-':>8}"))
        return "\n".join(lines)


def kill_storm(bench, seed, kills, say=print):
    """SIGKILL to one replica after the other at random moments, without waiting for anything to recover; a canary now
    and then shows that the relays still get somewhere."""
    rng = random.Random(f"kills/{seed}")
    recoveries = []
    while bench.kills < kills:
        time.sleep(rng.choice((rng.uniform(0.0, 0.3), rng.uniform(0.3, 2.5))))
        replica = rng.choice(bench.replicas)
        replica.kill()
        if rng.random() < 0.3:
            time.sleep(rng.uniform(0.0, 1.0))
        replica.start()
        if bench.kills % 25 == 0:
            recoveries.append(bench.canary(RECOVERY_LIMIT))
            say(f"{bench.kills:6} kills, {bench.workload.committed} events committed, recovered in {recoveries[-1]:.2f} s")
    return recoveries

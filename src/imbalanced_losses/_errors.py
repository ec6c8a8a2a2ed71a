"""What is wrong with data, in sentences, and names of the user's own in them."""

from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST_NAME = 60
_LISTED = 5


class DataError(ValueError):
    """Data that cannot be compared. Its message is one or two sentences that name the fix."""


class WorkerError(RuntimeError):
    """A worker process that is gone. Its message says what is kept and how to go on."""


def missing_extra(error: ModuleNotFoundError) -> str:
    """The sentence for a package that an extra of this library brings."""
    return (
        f"imbalanced_losses.compare needs {error.name}, which the compare extra of this repository "
        'installs: in its clone, pip install ".[compare]".'
    )


def quoted(name: object) -> str:
    """A name in quotes on one line: what cannot be printed is escaped, what is long is cut."""
    text = str(name)
    return repr(text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…")


def listed(names: Iterable[object]) -> str:
    """The first of the names in quotes, and how many more there are."""
    names = list(names)
    words = ", ".join(map(quoted, names[:_LISTED]))
    return words if len(names) <= _LISTED else f"{words} and {len(names) - _LISTED} more"


def counted(count: int, thing: str) -> str:
    """Such as `"1 row"` or `"2,000 rows"`."""
    if count == 1:
        return f"1 {thing}"
    return f"{count:,} {thing}{'es' if thing.endswith('s') else 's'}"


def doubled(source: str, names: Iterable[str]) -> str:
    """The sentence for columns of a source, already in quotes, that share a name."""
    often = [name for name, count in Counter(names).items() if count > 1]
    return (
        f"{source} has more than one column of the name {listed(often)}. Rename them, so "
        "that it is known which is meant."
    )


def missing_name(name: object, names: Iterable[object], thing: str = "column") -> DataError:
    """The error for a name that is not there, with those that are near it."""
    known = {str(one).casefold().strip(): str(one) for one in names}
    near = get_close_matches(str(name).casefold().strip(), known, n=3)
    if near:
        hint = f"Did you mean {' or '.join(quoted(known[one]) for one in near)}?"
    elif known:
        hint = f"There are {listed(known.values())}."
    else:
        hint = f"There is no {thing} at all."
    return DataError(f"There is no {thing} {quoted(name)}. {hint}")


def one_line(text: object) -> str:
    """Text that a terminal can show: what would break the line or steer the screen is escaped."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(text))

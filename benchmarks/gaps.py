"""The largest gap between floor and measured time, in a sentence for each headline case."""

GAPS: dict[str, str] = {}

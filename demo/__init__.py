"""Two tables with rare classes, and `compare` on each of them: `python -m demo`."""

"""Speed and memory of the losses beside torch and an earlier release: `python -m benchmarks`."""

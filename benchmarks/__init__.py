"""Speed, memory and accuracy of the losses beside torch and their peers: `python -m benchmarks`."""

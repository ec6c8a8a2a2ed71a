"""PyTorch losses for problems in which one class is rare."""

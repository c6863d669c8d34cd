"""Sizes, times, prices and chooses a training run before it starts. See `plan` and `Workload`."""

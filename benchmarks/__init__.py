"""Benchmarks of speed and memory against other implementations and networks, as ratios within one run."""

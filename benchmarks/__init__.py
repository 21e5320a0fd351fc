"""Speed and memory of the networks against every other way to run them, as ratios in one run."""

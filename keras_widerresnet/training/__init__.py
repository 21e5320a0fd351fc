"""Training with the official release's recipe."""

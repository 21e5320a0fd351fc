"""Training by the release's recipe."""

"""Numbers and pictures of a trained network."""

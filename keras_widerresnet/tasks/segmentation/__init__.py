"""Images to a class at every pixel."""

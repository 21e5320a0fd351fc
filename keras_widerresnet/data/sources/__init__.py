"""Where images come from: one module a source, each from a path or name to the splits of a data set."""

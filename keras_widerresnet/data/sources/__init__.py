"""Sources of images: one module per source, each of which turns a path or name into the splits of a data set."""

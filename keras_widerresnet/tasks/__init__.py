"""What networks are trained for: one folder a task, with the same file names in each."""

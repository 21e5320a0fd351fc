"""The tasks that networks are trained for: one folder per task, with the same file names in each."""

"""The pure heart: tasks, state, steps and their transformations. No files, clocks, prints or globals."""

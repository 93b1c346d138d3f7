"""What is learned: one constructor of a `Task` a file."""

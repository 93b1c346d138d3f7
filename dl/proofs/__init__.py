"""What a run promises, shown by running it again."""

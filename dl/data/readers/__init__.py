"""Files as arrays: one reader a kind, whoever wrote the file."""

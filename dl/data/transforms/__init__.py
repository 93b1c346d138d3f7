"""Random transformations of training batches, inside the compiled step."""

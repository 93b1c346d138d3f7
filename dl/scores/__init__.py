"""What is measured over all predictions at once."""

"""The imperative shell around the pure core: the loop, its run folder, and the proofs of both."""

"""Batches: pure functions of (seed, step)."""

from dl.data.batches.resident import eval_batches, held_out, train_batches

__all__ = ["eval_batches", "held_out", "train_batches"]

"""Batches: pure functions of (seed, step)."""

from dl.data.batches.resident import eval_batches, train_batches

__all__ = ["eval_batches", "train_batches"]

"""A linear probe finds what is linear in features, and little of what is not."""

import numpy as np

from dl.baselines.probe import linear_probe


def test_it_reads_what_is_in_features_by_training_rows_alone():
    draw = np.random.default_rng(0)
    image = draw.normal(size=(600, 4)) * [1, 100, 0.01, 1]
    label = (image[:, 2] > 0).astype(np.int32) + 2  # of a small feature, beside a large one
    parts = [{"image": image[rows], "label": label[rows]} for rows in (slice(400), slice(400, 600))]
    whole = linear_probe(lambda columns: columns["image"], parts[0])
    assert whole(parts[1], "test")["probe"] > 0.95
    part = linear_probe(lambda columns: columns["image"][:, :2], parts[0], rows=100)
    assert part(parts[1], "test")["probe"] < 0.65

"""All folds lie side by side, and one of them, traced or not, gives the batches that it would give alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

import dl
from dl.core.lanes import graft
from dl.data.batches import eval_batches, train_batches
from dl.data.folded import Folds, merged, one_fold, recut
from dl.data.splits import Info, Splits, folds
from dl.testing import check_batches

INFO = Info("made", "made", "", "", "classification", "", ("a", "b"))


def made(rows=23):
    columns = {"x": np.arange(rows, dtype=np.float32), "label": np.arange(rows) % 2}
    return Splits(columns, {}, {name: x[:3] for name, x in columns.items()}, INFO)


@pytest.fixture(scope="module")
def parts():
    return [recut(made(), 4, fold) for fold in range(4)]


def test_each_row_is_in_the_test_part_of_one_fold(parts):
    tested = np.concatenate([part.test["x"] for part in parts])
    assert sorted(tested) == list(range(23))
    for n, part in enumerate(parts):
        whole = [part.train["x"], part.validation["x"], part.test["x"]]
        assert sorted(np.concatenate(whole)) == list(range(23))
        np.testing.assert_array_equal(part.validation["x"], parts[(n + 1) % 4].test["x"])
        np.testing.assert_array_equal(part.info.details["fold_rows"]["test"], part.test["x"])
        assert abs(part.test["label"].mean() - 0.5) < 0.2


def test_a_traced_folds_batches_are_those_of_the_fold_alone(parts):
    pooled = Folds([part.train for part in parts])
    assert len(set(pooled.size.tolist())) > 1
    whole = train_batches(pooled.at(0), 5, 7)
    most = [train_batches(pooled.at(n), 99, at_most=True).batch_size for n in range(4)]
    assert set(most) == {min(len(part.train["x"]) for part in parts)}

    @jax.jit
    def batch(fold, step, data):
        return graft(train_batches(pooled.at(fold), 5, 7), data)[step]

    evaluated = Folds([part.test for part in parts])
    for n, part in enumerate(parts):
        alone = train_batches(part.train, 5, 7)
        for step in (0, 1, 3, 4, 40):
            np.testing.assert_array_equal(batch(n, step, whole)["x"], alone[step]["x"])
        check_batches(train_batches(Folds([part.train] * 2).at(1), 5, 7))
        told, own = eval_batches(evaluated.at(n), 4), eval_batches(part.test, 4)
        rows = np.concatenate([told[i]["x"][told[i]["mask"] > 0] for i in range(len(told))])
        np.testing.assert_array_equal(rows, part.test["x"])
        assert len(told) >= len(own)
        assert told.digest() == eval_batches(evaluated.at(0), 4).digest()


def test_columns_of_a_traced_fold_are_computed_with_where_all_have_as_many_rows(parts):
    @jax.jit
    def total(fold, equal):
        assert pooled.at(fold)["x"].ndim == 1
        return jnp.sum(pooled.at(fold)["x"])

    pooled = Folds([{"x": np.full(3, n, np.float32)} for n in range(4)])
    assert total(2, True) == 6
    pooled = Folds([part.train for part in parts])
    with pytest.raises(TypeError):
        jax.jit(lambda fold: jnp.sum(pooled.at(fold)["x"]))(2)


def test_what_is_prepared_is_taken_at_the_fold():
    of = merged([(np.arange(2.0) + n, 0.5 * n, "word") for n in range(3)])
    array, number, word = of(1)
    assert (array.tolist(), number, word) == ([1.0, 2.0], 0.5, "word")
    traced = jax.jit(lambda fold: of(fold)[:2])(2)
    assert (traced[0].tolist(), float(traced[1])) == ([2.0, 3.0], 1.0)
    with pytest.raises(TypeError):
        jax.jit(lambda fold: jnp.zeros(()) + len(merged(["a", "b"])(fold)))(0)


def test_a_group_stays_in_one_fold_and_classes_in_proportion():
    group = np.repeat(np.arange(40), np.arange(40) % 4 + 1)
    label = (group % 3 == 0).astype(int)
    of_row = folds(label, 4, 0, group)
    assert all(len(set(of_row[group == one])) == 1 for one in range(40))
    for n in range(4):
        assert abs((of_row == n).mean() - 0.25) < 0.06
        assert abs(label[of_row == n].mean() - label.mean()) < 0.06
    with raises("folds-too-many", "3 groups"):
        folds(np.zeros(9, int), 4, 0, np.arange(9) % 3)


def test_the_door_gives_every_fold_of_a_file_and_groups_whole(tmp_path):
    file = tmp_path / "t.csv"
    rows = (f"{n * 7 % 31},{'abc'[n % 3]},p{n // 2},{'yn'[n % 2]}\n" for n in range(30))
    file.write_text("x,word,who,label\n" + "".join(rows))
    tested = []
    for fold in range(3):
        splits = dl.data.open(file, "table", folds=3, fold=fold, group="who")
        tested.append(splits.info.details["fold_rows"]["test"] // 2)
        assert splits.test.folds.rows is not None
    assert not set(tested[0]) & (set(tested[1]) | set(tested[2]))
    with raises("folds-not-swept", "3 folds"):
        dl.data.open(file, "table", folds=3)
    with raises("range", "no fold 3 of 3"):
        dl.data.open(file, "table", folds=3, fold=3)
    with raises("options-exclusive", "--folds"):
        dl.data.open(file, "table", folds=3, fold=0, in_order=True)
    with raises("option-misplaced", "--folds"):
        dl.data.open(file, "series", folds=3, fold=0)


def test_what_a_script_prepares_it_prepares_for_every_fold_once():
    asked = []

    @dataclasses.dataclass(frozen=True)
    class Config:
        folds: int | None = 3
        fold: int | None = 0
        scale: float = 2.0
        other: float = 1.0

    @dl.prepared
    def scaled(config):
        asked.append(config.fold)
        return recut(made(), config.folds, config.fold).map(lambda c: {"x": c["x"] * config.scale})

    for fold in range(3):
        found = scaled(Config(fold=fold, other=fold)).test
        with one_fold():
            alone = scaled(Config(fold=fold)).test
        np.testing.assert_array_equal(found["x"], alone["x"])
        assert type(alone) is dict
    assert asked[:3] == [0, 1, 2]
    assert len(asked) == 6

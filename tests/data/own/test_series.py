"""Series of one's own: times, steps and gaps are found and shown, and parts follow each other in time."""

import jax
import numpy as np
import pandas as pd
import pytest
from mistakes import raises

import dl
from dl.data.batches.resident import digest_arrays
from dl.data.batches.series_windows import forecasting_windows
from dl.data.sets.series import standardize
from dl.models.forecasters import TimeLinear, WithKnown
from dl.tasks.forecasting import forecasting


def shown(splits):
    return {line.name: f"{line.taken_for} {line.more}" for line in splits.info.details["lines"]}


def hourly(count=400, **columns):
    when = pd.date_range("2024-01-01", periods=count, freq="h")
    return pd.DataFrame(
        {"when": when, "load": np.sin(np.arange(count) * 2 * np.pi / 24), **columns}
    )


def whole(splits):
    return np.concatenate([part["values"] for part in splits.parts.values()])


def test_one_series_is_cut_in_time_and_all_is_shown(tmp_path, capsys):
    frame = hourly(place="north")
    frame.to_csv(tmp_path / "load.csv", sep=";", decimal=",", index=False)
    splits = dl.data.open(tmp_path / "load.csv", "series", horizon=12)
    assert {name: len(part["values"]) for name, part in splits.parts.items()} == {
        **{"train": 320, "validation": 40, "test": 40},
    }
    np.testing.assert_allclose(whole(splits)[:, 0], frame["load"])
    details, lines = splits.info.details, shown(splits)
    assert (details["period"], details["horizon"]) == (24, 12)
    assert details["look_back"] % 24 == 0
    assert "every hour" in lines["when"]
    assert "no numbers" in lines["place"]
    assert "proposed" in lines["look-back"]
    assert "proposed" not in lines["horizon"]
    assert "every hour" in " ".join(capsys.readouterr().err.split())


def test_rows_of_many_series_in_any_order(tmp_path):
    one, two = hourly(200), hourly(300)
    long = pd.concat([one.assign(shop="b"), two.assign(shop="a", load=two["load"] + 5)])
    mixed = long.sample(frac=1, random_state=0)
    splits = dl.data.open(mixed, "series", horizon=6, look_back=12)
    assert splits.info.details["names"] == ("a", "b")
    assert "a, b" in shown(splits)["shop"]
    assert np.bincount(splits.train["series"]).tolist() == [240, 160]
    first = splits.train["values"][splits.train["series"] == 1][:, 0]
    np.testing.assert_array_equal(first, one["load"][:160])
    named = dl.data.open(long.assign(town="x"), "series", series=("town", "shop"), horizon=6)
    assert named.info.details["names"] == ("x / a", "x / b")
    with raises("times-repeat", "repeats", "--series"):
        dl.data.open(long.drop(columns="shop"), "series")


@pytest.mark.parametrize(
    ("freq", "step", "period"),
    [
        ("15min", "15 minutes", 96),
        ("D", "day", 7),
        ("B", "weekday", 5),
        ("W", "week", 52),
        ("MS", "month", 12),
        ("ME", "month", 12),
        ("QS", "quarter", 4),
        ("YS", "year", 1),
    ],
)
def test_steps_and_their_periods(freq, step, period):
    when = pd.date_range("1900-01-01", periods=500 if freq != "YS" else 100, freq=freq)
    frame = pd.DataFrame({"ds": when, "y": np.random.default_rng(0).normal(size=len(when))})
    details = dl.data.open(frame, "series").info.details
    assert (details["step"], details["period"]) == (step, period)
    holes = frame.drop(index=[5, 6, 40])
    splits = dl.data.open(holes, "series")
    assert splits.info.details["step"] == step
    assert "3 steps" in shown(splits)["gaps"]
    assert np.flatnonzero(
        np.isnan(np.concatenate([p["values"] for p in splits.parts.values()]))
    ).tolist() == [5, 6, 40]


def test_rows_without_times_and_times_in_several_columns(tmp_path):
    values = np.sin(np.arange(300) * 2 * np.pi / 7)
    np.savetxt(tmp_path / "rates.txt", np.stack([values, values + 1], 1), delimiter=",")
    splits = dl.data.open(tmp_path / "rates.txt", "series")
    assert splits.info.details["period"] == 7
    assert "autocorrelation" in shown(splits)["period"]
    assert "rows are steps" in shown(splits)["(no column)"]
    when = pd.date_range("2024-01-01", periods=100, freq="h")
    parts = {unit: getattr(when, unit) for unit in ("year", "month", "day", "hour")}
    beside = pd.DataFrame({"No": range(1, 101), **parts, "pm": np.arange(100) % 9})
    splits = dl.data.open(beside, "series")
    assert splits.info.details["step"] == "hour"
    assert splits.info.details["variables"] == ("pm",)
    assert "numbers the rows" in shown(splits)["No"]


def test_times_that_count():
    rows = [(p, h, 60 + h % 5) for p in range(3) for h in range(60) if (p, h) != (1, 7)]
    frame = pd.DataFrame(rows, columns=["patient", "hour", "pulse"])
    splits = dl.data.open(frame, "series", horizon=2, look_back=4)
    assert splits.info.details["names"] == ("0", "1", "2")
    assert splits.info.details["variables"] == ("pulse",)
    assert splits.info.details["step"] == "unit"
    assert "1 step put in" in shown(splits)["gaps"]


def test_parts_of_the_file_and_series_that_are_too_short():
    frame = hourly(100, part=["train"] * 60 + ["val"] * 20 + ["test"] * 20)
    splits = dl.data.open(frame, "series", split="part", horizon=4, look_back=8)
    assert [len(part["values"]) for part in splits.parts.values()] == [60, 20, 20]
    with raises("parts-out-of-order"):
        dl.data.open(
            frame.assign(part=frame["part"][::-1].to_numpy()), "series", split="part", horizon=4
        )
    both = pd.concat([hourly(100).assign(id="long"), hourly(10).assign(id="short")])
    splits = dl.data.open(both, "series", series=("id",), horizon=4, look_back=8)
    assert splits.info.details["names"] == ("long",)
    assert "1 series" in shown(splits)["skipped"]
    with raises("series-too-short", "--look-back"):
        dl.data.open(both, "series", series=("id",), horizon=4, look_back=800)


def test_mistakes_are_named():
    frame = hourly(50)
    with raises("column-unknown", "--time", "whenn", "did you mean 'when'"):
        dl.data.open(frame, "series", time="whenn")
    with raises("times-uneven", "resample"):
        rough = np.cumsum(np.random.default_rng(0).integers(60, 90_000, 50)).astype("datetime64[s]")
        dl.data.open(frame.assign(when=rough), "series")
    with raises("cell-unreadable", "line 4", "'x'"):
        cells = frame.assign(load=[*"12x", *["4"] * 47])
        dl.data.open(cells.to_csv(index=False).encode(), "series")
    with raises("series-no-variables"):
        dl.data.open(frame.assign(load="words"), "series")
    with raises("option-misplaced", "--series"):
        dl.data.open("ett", "series", series=("x",))


def test_windows_stay_in_their_series_and_gaps_are_not_scored():
    rng = np.random.default_rng(1)
    frames = [hourly(120 + 40 * n).assign(id=str(n)) for n in range(2)]
    frame = pd.concat(frames, ignore_index=True)
    frame["load"] = np.where(rng.random(len(frame)) < 0.2, np.nan, np.arange(len(frame)) % 50)
    splits = dl.data.open(frame, "series", horizon=3, look_back=6)
    train, sets = forecasting_windows(splits, 4)
    series = np.concatenate(
        [np.full(n, i) for i, n in enumerate(np.bincount(splits.train["series"]))]
    )
    assert train.size <= len(series) - 2 * 8
    rows = sets["test"][0]
    assert np.isfinite(rows["past"]).all()
    assert np.isnan(rows["future"]).any()
    # In each series the last test window ends with its last value.
    last = frame[frame["id"] == "1"]["load"].to_numpy()[-3:]
    index = sets["test"].size - 1
    window = sets["test"][index // 512]["future"][index % 512, :, 0]
    np.testing.assert_array_equal(window, last.astype(np.float32))
    assert sets["test"].size + sets["validation"].size <= 2 * (12 + 16)


def test_a_past_is_filled_by_the_last_value_before_and_never_from_another_series():
    frame = pd.concat([hourly(60).assign(id=i, load=float(i + 1)) for i in range(2)])
    frame.loc[frame.index < 3, "load"] = np.nan  # of both
    frame.loc[frame.index == 10, "load"] = np.nan
    splits = dl.data.open(frame, "series", series=("id",), horizon=2, look_back=4)
    train, _ = forecasting_windows(splits, 4)
    past = np.concatenate([train.ordered(500)[0]["past"]])[..., 0]
    assert set(past.ravel().tolist()) <= {0.0, 1.0, 2.0}
    assert not ((past == 1).any(1) & (past == 2).any(1)).any()


def test_each_series_is_standardised_by_itself():
    frame = pd.concat([hourly(100).assign(id=i) for i in range(2)], ignore_index=True)
    frame["load"] = np.where(frame["id"] == 0, 1.0, 1000.0) * (np.arange(200) % 10)
    splits = dl.data.open(frame, "series", series=("id",), horizon=2, look_back=4)
    scaled, mean, _ = standardize(splits, by="series")
    assert mean[1] > 100 * mean[0]
    assert abs(float(scaled.train["values"].std()) - 1) < 1e-3


def test_what_is_known_ahead_comes_with_the_future():
    sale = np.arange(400) % 5 == 0
    frame = hourly(sale=sale.astype(float), soft=np.where(np.arange(400) == 8, np.nan, 1.0))
    splits = dl.data.open(frame, "series", known=("sale", "soft"), horizon=3, look_back=6)
    assert splits.info.details["variables"] == ("load",)
    assert "known ahead" in shown(splits)["sale"]
    _, sets = forecasting_windows(splits, 4)
    rows = sets["test"][0]
    assert rows["known"].shape[1:] == (3, 2)
    values = rows["future"][0, :, 0]
    place = int(
        np.flatnonzero(np.isclose(frame["load"], values[0], atol=1e-6) & (np.arange(400) >= 360))[0]
    )
    np.testing.assert_array_equal(rows["known"][0, :, 0], sale[place : place + 3])
    model = WithKnown(TimeLinear(3))
    task = forecasting(model, gaps=True, known="known")
    variables = task.init(jax.random.key(0), rows)
    alone = dict(rows, known=np.zeros_like(rows["known"]))
    np.testing.assert_array_equal(task.predict(variables, rows), task.predict(variables, alone))
    assert task.columns == ("past", "known")
    slope = jax.grad(lambda v: task.loss(v, rows, jax.random.key(1))[0])(variables)
    assert np.abs(slope["params"]["Dense_1"]["kernel"]).max() > 0


def test_a_moment_that_no_calendar_has_is_named(tmp_path):
    days = [f"2011,{1 + d // 28},{1 + d % 28},{d}" for d in range(100)]
    days[40] = "2011,2,30,40"
    (tmp_path / "t.csv").write_text("\n".join(["year,month,day,load", *days]))
    with raises("cell-unreadable", "line 42", "day 30", "no moment"):
        dl.data.open(tmp_path / "t.csv", "series")


def test_columns_that_are_left_out_and_rows_that_are_steps(tmp_path):
    rows = [f"day {n},{'ab'[n % 2]},{n * 0.5},{n % 3}" for n in range(400)]
    path = tmp_path / "sales.csv"
    path.write_text("\n".join(["date,shop,sold,code", *rows]))
    with raises("cell-unreadable", "'day 0'", "dates=", "--ignore date", "steps in order"):
        dl.data.open(path, "series", series="shop")
    splits = dl.data.open(path, "series", series="shop", ignore=("date", "code"))
    assert shown(splits)["code"].startswith("left out")
    assert "steps in order" in shown(splits)["(no column)"]
    assert splits.info.details["variables"] == ("sold",)
    first = splits.train["values"][splits.train["series"] == 0, 0]
    np.testing.assert_array_equal(first[:3], [0, 1, 2])  # interleaved rows, each series by itself


def test_the_hour_that_local_time_has_twice(tmp_path):
    when = pd.date_range("2021-01-01", periods=24 * 400, freq="h", tz="UTC").tz_convert(
        "Europe/Berlin"
    )
    frame = pd.DataFrame({"time": when.tz_localize(None), "load": np.arange(len(when)) % 24.0})
    splits = dl.data.open(frame, "series")
    assert "1 row" in shown(splits)["left out"]
    assert "twice in autumn" in shown(splits)["left out"]
    assert "1 step" in shown(splits)["gaps"]  # the hour that spring leaves out
    assert splits.info.details["period"] == 24
    again = pd.concat([frame, frame[5000:5001]])
    with raises("times-repeat", "--series"):
        dl.data.open(again, "series")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_cells_on_disk_are_read_as_those_in_memory(tmp_path, form, monkeypatch):
    monkeypatch.setattr("dl.data.readers.on_disk._BLOCK", 2000)
    some = [hourly(300, place=place, holiday=np.arange(300) % 7 == 0) for place in ("a", "b")]
    frame = (
        pd.concat(some).sample(frac=0.95, random_state=0).assign(holiday=lambda f: f.holiday * 1)
    )
    frame.loc[frame.index[::17], "load"] = np.nan
    source = tmp_path / f"a.{form}"
    frame.to_csv(source, index=False) if form == "csv" else frame.to_parquet(source, index=False)
    splits = [
        dl.data.open(source, "series", known=("holiday",), horizon=6, look_back=24, stream=stream)
        for stream in (False, True)
    ]
    assert "cells on disk" in shown(splits[1])["memory"]
    assert splits[0].info.details["names"] == splits[1].info.details["names"] == ("a", "b")
    for name, columns in splits[0].parts.items():
        assert digest_arrays(splits[1].parts[name]) == digest_arrays(columns)


def test_a_column_of_series_has_one_use(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("t,x,z\n" + "".join(f"{n},{n % 7},{n % 5}\n" for n in range(200)))
    for fields in ({"values": ("x",), "known": ("x",)}, {"known": ("z",), "static": ("z",)}):
        with raises("column-twice", "is named twice"):
            dl.data.open(path, "series", **fields)

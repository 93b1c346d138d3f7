"""The same models on MNIST in dl, in Keras on JAX, and in a plain Flax script: examples a second, and the
time to 99 % on the test set.

    python tests/benchmarks/peers.py [mlp|cnn] [--epochs 3] [--examples N] [--data-dir FOLDER] [--keras PYTHON]

Each peer runs in a process of its own, one after the other, and only dl's with dl's compiler settings: MLP
784-256-256-10 or CNN conv32-conv64-pool-conv128-pool-dense, batch 128, Adam at 1e-3, no augmentation, test
accuracy after every epoch. "Examples a second" is the best epoch's, without evaluation; the time to 99 %
(which the MLP does not reach in a few epochs) counts from the start of fitting, compiling and evaluations
included. Nothing is selected on the test set: all peers train the given number of epochs, on
``--examples`` of the training pictures. Where Keras is installed elsewhere, name that Python.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time

BATCH, RATE, GOAL = 128, 1e-3, 0.99


@dataclasses.dataclass(frozen=True)
class Plain:
    """A config that says nothing."""


def mnist():
    """Columns of the training and of the test set: pixels ``[n, 28, 28, 1]`` in 0..255, and labels."""
    import numpy as np

    with np.load(os.environ["PEERS_MNIST"]) as files:
        columns = {name: files[name] for name in files.files}
    return [{c: columns[f"{part}_{c}"] for c in ("image", "label")} for part in ("train", "test")]


def linen(name):
    """The model in Flax Linen, of Flax's own layers."""
    import flax.linen as nn

    class MLP(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = x.reshape(len(x), -1)
            for width in (256, 256):
                x = nn.relu(nn.Dense(width)(x))
            return nn.Dense(10)(x)

    class CNN(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            for stage, width in enumerate((32, 64, 128)):
                x = nn.relu(nn.Conv(width, (3, 3))(x))
                if stage > 0:
                    x = nn.max_pool(x, (2, 2), (2, 2))
            return nn.Dense(10)(x.reshape(len(x), -1))

    return {"mlp": MLP, "cnn": CNN}[name]()


def ours(name, epochs):
    import tempfile

    import flax.linen as nn

    import dl
    from dl.data.batches import eval_batches, train_batches
    from dl.models.convolution import Conv, max_pool
    from dl.models.layers import Dense
    from dl.models.mlp import MLP
    from dl.tasks.classification import classification

    class CNN(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False):
            for stage, width in enumerate((32, 64, 128)):
                x = nn.relu(Conv(width, (3, 3))(x))
                if stage > 0:
                    x = max_pool(x, (2, 2), (2, 2))
            return Dense(10)(x.reshape(len(x), -1))

    train, test = mnist()
    model = MLP((256, 256, 10)) if name == "mlp" else CNN()
    data = train_batches(train, BATCH)
    steps = data.size // BATCH
    experiment = dl.Experiment(
        task=classification(model),
        data=data,
        optimizer=dl.optimizer("adam", RATE),
        steps=epochs * steps,
        evals={"test": eval_batches(test, 1000)},
    )
    with tempfile.TemporaryDirectory() as runs:
        every = {"eval_every": steps, "log_every": steps}
        run = dl.train(lambda _: experiment, Plain(), runs=runs, progress=False, **every)
        times = [r["time"]["elapsed"] for r in run.folder.records() if r["event"] == "eval"]
        rates = [
            r["time"]["examples_per_second"] for r in run.folder.records() if r["event"] == "train"
        ]
        accuracies = run.history("eval")["test/accuracy"]
    return max(rates), [float(a) for a in accuracies], times


def flax(name, epochs):
    """As in Flax's MNIST tutorial: one jitted step, called from a Python loop over NumPy batches."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    train, test = mnist()
    model, optimizer = linen(name), optax.adam(RATE)
    begun = time.perf_counter()
    params = model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    state = optimizer.init(params)

    def prepare(image):
        return image.astype(jnp.float32) / 127.5 - 1.0

    @jax.jit
    def step(params, state, image, label):
        def loss(params):
            logits = model.apply(params, prepare(image))
            return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, value

    @jax.jit
    def hits(params, image, label):
        return (model.apply(params, prepare(image)).argmax(-1) == label).sum()

    rng, rates, accuracies, times = np.random.default_rng(0), [], [], []
    for _ in range(epochs):
        order = rng.permutation(len(train["label"]))
        started = time.perf_counter()
        for at in range(len(order) // BATCH):
            rows = order[at * BATCH : (at + 1) * BATCH]
            params, state, value = step(params, state, train["image"][rows], train["label"][rows])
        float(value)
        rates.append(len(order) // BATCH * BATCH / (time.perf_counter() - started))
        right = sum(
            int(hits(params, test["image"][at : at + 1000], test["label"][at : at + 1000]))
            for at in range(0, len(test["label"]), 1000)
        )
        accuracies.append(right / len(test["label"]))
        times.append(time.perf_counter() - begun)
    return max(rates), accuracies, times


def keras(name, epochs):
    os.environ["KERAS_BACKEND"] = "jax"
    import keras
    import numpy as np

    train, test = ((p["image"], p["label"]) for p in mnist())
    x, y = (train[0] / 127.5 - 1.0).astype(np.float32), train[1]
    test = (test[0] / 127.5 - 1.0).astype(np.float32), test[1]
    layers = keras.layers
    if name == "mlp":
        body = [layers.Flatten(), *(layers.Dense(256, activation="relu") for _ in range(2))]
    else:
        body = []
        for stage, width in enumerate((32, 64, 128)):
            body.append(layers.Conv2D(width, 3, padding="same", activation="relu"))
            body += [layers.MaxPooling2D(2)] if stage > 0 else []
        body.append(layers.Flatten())
    model = keras.Sequential([keras.Input((28, 28, 1)), *body, layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE), loss, metrics=["accuracy"])
    rates, accuracies, times, begun = [], [], [], time.perf_counter()
    for _ in range(epochs):
        started = time.perf_counter()
        model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)
        rates.append(len(x) / (time.perf_counter() - started))
        accuracies.append(float(model.evaluate(*test, batch_size=1000, verbose=0)[1]))
        times.append(time.perf_counter() - begun)
    return max(rates), accuracies, times


PEERS = {"dl": ours, "flax": flax, "keras": keras}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", choices=("mlp", "cnn"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--examples", type=int, help="of the training set, by default all")
    parser.add_argument("--data-dir")
    parser.add_argument("--keras", default=sys.executable)
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer:
        print(json.dumps(PEERS[given.peer](given.model, given.epochs)))
        return
    import tempfile

    import numpy as np

    from dl.data import load

    splits, before = load("mnist", given.data_dir), dict(os.environ)
    before.pop("XLA_FLAGS")  # dl's, set when it was imported
    with tempfile.TemporaryDirectory() as place:
        rows = np.random.default_rng(0).permutation(len(splits.train["label"]))[: given.examples]
        columns = {f"train_{c}": splits.train[c][rows] for c in ("image", "label")}
        columns |= {f"test_{c}": splits.test[c] for c in ("image", "label")}
        np.savez(f"{place}/mnist.npz", **columns)
        # Nobody gets programs that an earlier run compiled.
        environment = {**before, "PEERS_MNIST": f"{place}/mnist.npz"}
        environment["JAX_COMPILATION_CACHE_DIR"] = f"{place}/cache"
        for model in [given.model] if given.model else ["mlp", "cnn"]:
            for peer in PEERS:
                python = given.keras if peer == "keras" else sys.executable
                command = [python, __file__, model, "--peer", peer, "--epochs", str(given.epochs)]
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    print(f"{model:4} {peer:6} did not run: {done.stderr.strip().splitlines()[-1]}")
                    continue
                rate, accuracies, times = json.loads(done.stdout.splitlines()[-1])
                reached = [t for a, t in zip(accuracies, times, strict=True) if a >= GOAL]
                goal = f"{reached[0]:.1f} s to {GOAL:.0%}" if reached else f"{GOAL:.0%} not reached"
                found = " ".join(f"{a:.4f}" for a in accuracies)
                print(f"{model:4} {peer:6} {rate:9,.0f} examples/s  {goal}  ({found})", flush=True)


if __name__ == "__main__":
    main()

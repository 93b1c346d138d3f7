"""A training step of an MLP, 784-256-256-10, batch 128, Adam: ``python tests/benchmarks/mlp.py``."""

import itertools

import pair

BATCH, WIDTHS, STEPS = 128, (256, 256, 10), 50


def ours() -> float:
    import jax
    import optax

    from dl.models.mlp import MLP
    from dl.tasks.classification import classification

    key = jax.random.key(0)
    image = jax.random.normal(key, (BATCH, 784))
    batch = {"image": image, "label": jax.random.randint(key, (BATCH,), 0, 10)}
    task = classification(MLP(WIDTHS), prepare=lambda x: x)
    return pair.best(pair.training(task, optax.adam(1e-3), batch, STEPS), 20, STEPS)


def torchs() -> float:
    import torch
    from torch import nn

    sizes = (784, *WIDTHS)
    layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    net = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    x, y = torch.randn(BATCH, 784), torch.randint(0, 10, (BATCH,))

    def step():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()

    return pair.best(step, 300)


if __name__ == "__main__":
    pair.main(__file__, "mlp", {"dl": ours, "torch": torchs})

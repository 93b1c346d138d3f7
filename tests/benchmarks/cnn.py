"""A training step of a CNN, conv32-conv64-pool-conv128-pool-dense on 28x28 pictures, batch 128, Adam:
``python tests/benchmarks/cnn.py``."""

import pair

BATCH, SIDE, WIDTHS, CLASSES, STEPS = 128, 28, (32, 64, 128), 10, 2


def ours() -> float:
    import flax.linen as nn
    import jax
    import optax

    from dl.models.convolution import Conv, max_pool
    from dl.models.layers import Dense
    from dl.tasks.classification import classification

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False):
            for stage, width in enumerate(WIDTHS):
                x = nn.relu(Conv(width, (3, 3))(x))
                if stage > 0:
                    x = max_pool(x, (2, 2), (2, 2))
            return Dense(CLASSES)(x.reshape(len(x), -1))

    key = jax.random.key(0)
    image = jax.random.normal(key, (BATCH, SIDE, SIDE, 1))
    batch = {"image": image, "label": jax.random.randint(key, (BATCH,), 0, CLASSES)}
    task = classification(Net(), prepare=lambda x: x)
    return pair.best(pair.training(task, optax.adam(1e-3), batch, STEPS), 8, STEPS)


def torchs() -> float:
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for stage, (before, after) in enumerate(zip((1, *WIDTHS), WIDTHS, strict=False)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if stage > 0 else []
    dense = nn.Linear(WIDTHS[-1] * (SIDE // 4) ** 2, CLASSES)
    net = nn.Sequential(*layers, nn.Flatten(), dense)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    x, y = torch.randn(BATCH, 1, SIDE, SIDE), torch.randint(0, CLASSES, (BATCH,))

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    return pair.best(step, 15)


if __name__ == "__main__":
    pair.main(__file__, "cnn", {"dl": ours, "torch": torchs})

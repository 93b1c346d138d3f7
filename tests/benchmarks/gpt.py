"""A training step of a GPT, 4 layers, width 192, 6 heads, batch 16 x 128, AdamW:
``python tests/benchmarks/gpt.py``."""

import pair

VOCABULARY, WIDTH, LAYERS, HEADS, BATCH, TIME, STEPS = 65, 192, 4, 6, 16, 128, 4


def ours() -> float:
    import jax
    import optax

    from dl.models.language import LanguageModel
    from dl.models.transformer import Transformer
    from dl.tasks.language_modeling import language_modeling

    tokens = jax.random.randint(jax.random.key(0), (BATCH, TIME + 1), 0, VOCABULARY)
    batch = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}
    body = Transformer(WIDTH, LAYERS, HEADS, causal=True)
    task = language_modeling(LanguageModel(VOCABULARY, body, positions=TIME))
    return pair.best(pair.training(task, optax.adamw(1e-3), batch, STEPS), 6, STEPS)


def torchs() -> float:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x):
            parts = self.qkv(self.first(x)).split(WIDTH, dim=2)
            q, k, v = (p.unflatten(2, (HEADS, -1)).transpose(1, 2) for p in parts)
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).flatten(2))
            y = nn.functional.gelu(self.up(self.second(x)), approximate="tanh")
            return x + self.down(y)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, WIDTH)
            self.positions = nn.Parameter(0.02 * torch.randn(TIME, WIDTH))
            self.body = nn.Sequential(*(Block() for _ in range(LAYERS)))
            self.norm = nn.LayerNorm(WIDTH)

        def forward(self, x):
            x = self.norm(self.body(self.embedding(x) + self.positions))
            return x @ self.embedding.weight.T

    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    x, y = (torch.randint(0, VOCABULARY, (BATCH, TIME)) for _ in range(2))

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x).flatten(0, 1), y.flatten()).backward()
        optimizer.step()

    return pair.best(step, 20)


if __name__ == "__main__":
    pair.main(__file__, "gpt", {"dl": ours, "torch": torchs})

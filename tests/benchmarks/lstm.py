"""A training step of an LSTM language model, 2 x 200, vocabulary 1,000, batch 20 x 35, Adam:
``python tests/benchmarks/lstm.py``."""

import pair

VOCABULARY, WIDTH, LAYERS, BATCH, TIME, STEPS = 1000, 200, 2, 20, 35, 10


def ours() -> float:
    import jax
    import optax

    from dl.models.rnn import RNN, RecurrentLanguageModel
    from dl.tasks.language_modeling import language_modeling

    tokens = jax.random.randint(jax.random.key(0), (BATCH, TIME + 1), 0, VOCABULARY)
    batch = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}
    model = RecurrentLanguageModel(VOCABULARY, RNN(WIDTH, layers=LAYERS))
    task = language_modeling(model, carried=True)
    return pair.best(pair.training(task, optax.adam(1e-3), batch, STEPS), 20, STEPS)


def torchs() -> float:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, WIDTH)
            self.body = nn.LSTM(WIDTH, WIDTH, LAYERS, batch_first=True)
            self.head = nn.Linear(WIDTH, VOCABULARY)

        def forward(self, x, carry):
            y, carry = self.body(self.embedding(x), carry)
            return self.head(y), carry

    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    x, y = (torch.randint(0, VOCABULARY, (BATCH, TIME)) for _ in range(2))
    held = [None]

    def step():
        optimizer.zero_grad()
        logits, carry = net(x, held[0])
        held[0] = tuple(c.detach() for c in carry)
        nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()).backward()
        optimizer.step()

    return pair.best(step, 100)


if __name__ == "__main__":
    pair.main(__file__, "lstm", {"dl": ours, "torch": torchs})

"""Style transfer: one picture's content in another's style, by optimisation or by a network.

Data: any two pictures; by default the two that scikit-learn ships. The feature network is a CNN with random
weights, one trained here on a set of labelled pictures (`--features cifar10_jpeg`), or a ResNet imported with
--weights FOLDER. Reference: Gatys et al. 2016 (the parameters are the picture) and Johnson et al. 2016 (a network
learns the style from crops of the content picture, then draws in one pass).
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import dl
from dl.data.sets.images import overlapping, read_picture
from dl.figures.codes import strips
from dl.models.cnn import CNN
from dl.models.style import StyleNetwork
from dl.tasks.style_transfer import maps_of, style_network, style_transfer
from dl.training.cached import cached_classifier


@dataclasses.dataclass(frozen=True)
class Config:
    content: str = "china.jpg"
    """a file, or the name of one of scikit-learn's pictures: china.jpg, flower.jpg"""
    style: str = "flower.jpg"
    """likewise"""
    method: Literal["optimise", "network"] = "optimise"
    size: int = 192
    """height of both pictures, divisible by 4; widths follow, those of the style cut to the content's"""
    features: str = "random"
    """random, or the labelled set of pictures that the feature network learns first"""
    weights: str | None = None
    """folder of a ResNet in Hugging Face's layout: its stages are the features, in place of the above"""
    feature_epochs: int = 3
    """passes of the feature network over that set"""
    widths: tuple[int, ...] = (32, 64, 128)
    """the feature network's channels, each stage at half the size of the one before"""
    seed: int = 0
    """of the feature network, the style network and the crops"""
    steps: int = 400
    learning_rate: float = 2e-2
    """for optimise; a tenth of it for network"""
    style_weight: float = 100.0
    """against the content's 1"""
    smoothness: float = 1.0
    """weight of the squared differences of neighbouring pixels"""


@dl.prepared
def pictures(config: Config):
    """Both pictures; maps of unit mean square on the style, so that weights mean the same for any network."""
    content = read_picture(config.content, config.size)
    style = read_picture(config.style, *content.shape[:2])
    if config.weights is not None:
        maps = dl.interop.feature_maps(config.weights)
    elif config.features == "random":
        model = CNN(10, config.widths)
        variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        maps = maps_of(model, variables, nn.BatchNorm)
    else:
        known = dl.load(config.features).train
        learned = cached_classifier(known, config.widths, config.feature_epochs)
        maps = maps_of(*learned, nn.BatchNorm)
    scales = [float(jnp.sqrt(jnp.square(m).mean())) for m in jax.jit(maps)(style[None] / 255.0)]
    scaled = lambda x: [m / s for m, s in zip(maps(x), scales, strict=True)]  # noqa: E731
    return content, style, scaled, len(scales)


def build(config: Config) -> dl.Experiment:
    dl.bounded("--style-weight", config.style_weight, at_least=0)
    content, style, maps, count = pictures(config)
    weights = [0.0] * (count - 1) + [1.0], [config.style_weight / count] * count
    pair = {"content": content[None], "style": style[None], "image": content[None]}
    data, rate = dl.train_batches(pair, 1, config.seed), config.learning_rate
    task = style_transfer(maps, *weights, smoothness=config.smoothness)
    if config.method == "network":
        model = StyleNetwork((16, 32, 64), blocks=3)
        task = style_network(model, maps, style, *weights, smoothness=config.smoothness)
        squares = overlapping(content, config.size // 8 * 4, 8)
        data, rate = dl.train_batches({"image": squares}, 4, config.seed), rate / 10

    def views(predictor):
        drawn = predictor(pair)
        return {"picture": drawn, "all": strips(np.stack([content / 255, drawn[0], style / 255]))}

    optimizer = dl.optimizer("adam", dl.schedule("cosine", rate, config.steps, end=0.05))
    evals = {"picture": dl.eval_batches(pair, 1)}
    return dl.Experiment(task, data, optimizer, config.steps, config.seed, evals, views=views)


if __name__ == "__main__":
    dl.main(Config, build)

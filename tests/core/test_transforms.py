"""Parameters learned elsewhere: they arrive, the rest is fresh, and strangers are refused."""

import jax
import jax.numpy as jnp
import numpy as np
from mistakes import raises

from dl.core.transforms import initialized_from
from dl.models.language import LanguageModel, TextClassifier
from dl.models.transformer import Transformer
from dl.tasks.masked_language_modeling import masked_language_modeling
from dl.tasks.sequence_classification import sequence_classification


def encoder():
    return LanguageModel(20, Transformer(8, 1, 2), positions=6)


BATCH = {"tokens": jnp.array([[4, 9, 8, 5, 0, 0]]), "label": jnp.array([1])}


def pretrained():
    task = masked_language_modeling(encoder(), 20)
    return jax.jit(task.init)(jax.random.key(1), BATCH)["params"]


def test_a_classifier_begins_with_the_pretrained_encoder():
    task = sequence_classification(TextClassifier(encoder(), 2))
    fresh = jax.jit(task.init)(jax.random.key(0), BATCH)["params"]
    given = pretrained()
    begun = jax.jit(initialized_from(task, encoder=given).init)(jax.random.key(0), BATCH)["params"]
    jax.tree.map(np.testing.assert_array_equal, begun["encoder"], given)
    jax.tree.map(np.testing.assert_array_equal, begun["head"], fresh["head"])


def test_another_architecture_or_name_is_refused():
    task = sequence_classification(TextClassifier(encoder(), 2))
    stranger = {"embedding": {"embedding": np.zeros((20, 4))}}
    with raises("weights-of-another-model"):
        jax.eval_shape(initialized_from(task, encoder=stranger).init, jax.random.key(0), BATCH)
    with raises("unknown", "'decoder'"):
        jax.eval_shape(initialized_from(task, decoder=stranger).init, jax.random.key(0), BATCH)


def test_variables_that_lack_a_module_leave_it_fresh():
    from dl.core.transforms import initialized_from

    task = sequence_classification(TextClassifier(encoder(), 2))
    given = {"params": {"encoder": pretrained()}}
    fresh = jax.jit(task.init)(jax.random.key(0), BATCH)["params"]
    begun = jax.jit(initialized_from(task, given).init)(jax.random.key(0), BATCH)["params"]
    jax.tree.map(np.testing.assert_array_equal, begun, {**given["params"], "head": fresh["head"]})
    strangers = {"params": {"encoder": {"positions": np.zeros((7, 8))}}}
    with raises("weights-of-another-model", "'positions'"):
        initialized_from(task, strangers).init(jax.random.key(0), BATCH)
    with raises("weights-of-another-model", "'tail'"):
        initialized_from(task, {"params": {"tail": {}}}).init(jax.random.key(0), BATCH)

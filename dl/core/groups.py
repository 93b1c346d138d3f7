"""Groups of parameters that an optimiser treats apart: by patterns of their paths, and by their layers."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dl.core.errors import UserError, bounded, unknown
from dl.core.state import path_name

OPTIONS = ("factor", "learning_rate", "weight_decay", "freeze")
Groups = Mapping[str, Mapping[str, Any]]  # options by a pattern that is searched for in paths


def matching(patterns: Sequence[str], params: Any) -> Any:
    """The place of the first of ``patterns`` that is found in each leaf's path, such as
    ``encoder/layer_0/in/kernel``; -1 where none is. ``params`` may be shapes.

    Raises:
      UserError: a pattern is no regular expression, or is in no path.
    """
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in patterns:
        try:
            found = any(re.search(pattern, path) for path in paths)
        except re.error as error:
            raise UserError(
                "pattern", f"{pattern!r} is no regular expression ({error}): mend it"
            ) from None
        if not found:
            raise UserError(
                "pattern-nowhere",
                f"{pattern!r} is in no parameter's path: {_near(pattern, paths)}",
            )

    def first(path: Any, _: Any) -> int:
        name = path_name(path)
        return next((n for n, pattern in enumerate(patterns) if re.search(pattern, name)), -1)

    return jax.tree_util.tree_map_with_path(first, params)


def _near(pattern: str, paths: list[str]) -> str:
    """The modules and parameters nearest to a pattern, and the outermost ones."""
    parts = [path.split("/") for path in paths]
    known = {"/".join(p[:n]) for p in parts for n in range(1, len(p) + 1)}
    known |= {word for p in parts for word in p}
    near = difflib.get_close_matches(pattern, sorted(known), 4, 0.5)
    every = f"there are {', '.join(sorted({p[0] for p in parts}))}"
    return f"near are {', '.join(near)}; {every}" if near else every


def adapted(paths: Iterable[str]) -> set[str]:
    """The paths of those matrices that :func:`~dl.core.adapters.lora` keeps as two, ``PATH/a`` and ``PATH/b``."""
    known = set(paths)
    return {path[:-2] for path in known if path.endswith("/a") and f"{path[:-2]}/b" in known}


def check_groups(groups: Groups) -> None:
    """Raise UserError where an option of a group is none."""
    for pattern, options in groups.items():
        if not isinstance(pattern, str) or not isinstance(options, Mapping):
            raise UserError(
                "groups-malformed",
                "groups are options by pattern, such as {'^head/': {'factor': 0.1}}, not "
                f"{pattern!r}: {options!r:.60}",
            )
        for name in options:
            if name not in OPTIONS:
                raise unknown(f"option of the group {pattern!r}", name, OPTIONS)
        if {"factor", "learning_rate"} <= options.keys():
            raise UserError(
                "options-exclusive",
                f"the group {pattern!r} has a factor and a learning_rate: give one of the two",
            )
        bounded(f"factor of the group {pattern!r}", options.get("factor"), at_least=0)


def rate_of(options: Mapping[str, Any], rate: Any) -> Any:
    """The learning rate of a group: its own, or the common one times its factor."""
    factor = options.get("factor")
    if factor is None:
        return options.get("learning_rate", rate)
    return (lambda step: factor * rate(step)) if callable(rate) else factor * rate


def by_params(make: Callable[[Any], optax.GradientTransformation]) -> optax.GradientTransformation:
    """The transformation that ``make`` gives for the parameters at hand, all of them: one that Optax
    calls for a part of the tree would not see which axes are stacked."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return make(params).update(updates, state, params)

    return optax.GradientTransformation(lambda params: make(params).init(params), update)


def part_of(whole: Any) -> Callable[[Any], Any]:
    """A function that gives, of a tree, what is at the leaves that Optax's masks leave of another."""

    def part(seen: Any) -> Any:
        def masked(x: Any) -> bool:
            return isinstance(x, optax.MaskedNode)

        return jax.tree.map(lambda x, own: x if masked(x) else own, seen, whole, is_leaf=masked)

    return part


def partitioned(
    groups: Groups,
    make: Callable[[Mapping[str, Any], Any], optax.GradientTransformation],
    clip: float | None,
) -> optax.GradientTransformation:
    """``make(options, params)`` of every group's parameters, and of the others with no options. What is frozen
    counts for no clipping, keeps its bits and takes no memory."""
    check_groups(groups)
    each = [*groups.values(), {}]
    frozen = [bool(options.get("freeze")) for options in each]

    def labels(params: Any) -> Any:
        found = matching(tuple(groups), params)
        if all(frozen[place] for place in jax.tree.leaves(found)):
            raise UserError(
                "all-frozen", "every parameter is frozen: leave one out of the patterns"
            )
        return found

    def whole(params: Any) -> optax.GradientTransformation:
        found = labels(params)
        parts = {
            f"group_{place}": optax.set_to_zero() if still else make(options, params)
            for place, (options, still) in enumerate(zip(each, frozen, strict=True))
        }
        named = jax.tree.map(lambda place: f"group_{place % len(each)}", found)
        steps = [optax.partition(parts, named)]
        if clip is not None:
            still = jax.tree.map(lambda place: frozen[place], found)
            steps = [
                optax.masked(optax.set_to_zero(), still),
                optax.clip_by_global_norm(clip),
                *steps,
            ]
        return optax.chain(*steps)

    return by_params(whole)


# -- layers -----------------------------------------------------------------------------------------------

_NUMBERED = re.compile(r"(.*?)_?(\d+(?:_\d+)*)")  # layer_3, Dense_0, block_2_1
_FIRST = re.compile("embed|position|patch|stem|token")  # of what comes before the first block
_CONVOLVED = re.compile("conv", re.IGNORECASE)

Number = tuple[int, ...]
Row = tuple[str, ...]  # the modules that a numbered one lies in, and its name without the number


def layers(params: Any, stacked: Any) -> tuple[Any, list[list[str]]]:
    """The layer that each parameter is of, and the modules of each layer.

    Blocks are the longest row of numbered modules that hold modules, such as ``layer_0`` to ``layer_5`` or
    ``block_0_0`` to ``block_3_2``, else the longest of any, such as ``Dense_0`` and ``Dense_1``; and whatever rows
    are as long beside it. Inside of one no numbers count, and rows that begin with neither 0 nor 1, such as
    convolutions called by their windows, are none. What is numbered by the stage of blocks beside it comes before
    the first of them. Embeddings, positions, patches and stems are the layer before the first block, and so are
    convolutions beside blocks that have none; what else has no number, such as a head, is after the last.

    Args:
      stacked: each leaf's stacked axes (:func:`~dl.core.optim.stacked_axes`); a leaf of layers under ``nn.scan``
        gets an array ``[layers, 1, ...]``.

    Raises:
      UserError: no modules are numbered.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    axes = jax.tree.leaves(stacked)
    named = [path_name(path) for path, _ in leaves]
    thin = adapted(named)
    paths = [(name[:-2] if name[:-2] in thin else name).split("/") for name in named]
    rows: dict[Row, set[Number]] = {}
    blocks: set[Row] = set()  # rows whose modules hold modules

    def places(path: list[str], leaf: Any, along: int) -> list[tuple[Row, list[Number]]]:
        found: list[tuple[Row, list[Number]]] = []
        for depth, word in enumerate(path):
            if word == "layers" and along:
                found.append(((*path[:depth], word), [(n,) for n in range(leaf.shape[along - 1])]))
            elif match := _NUMBERED.fullmatch(word):
                number = tuple(int(n) for n in match[2].split("_"))
                found.append(((*path[:depth], match[1]), [number]))
            else:
                continue
            if depth + 2 < len(path):
                blocks.add(found[-1][0])
        return found

    found = [places(p, leaf, n) for p, (_, leaf), n in zip(paths, leaves, axes, strict=True)]
    for row, numbers in (place for several in found for place in several):
        rows.setdefault(row, set()).update(numbers)
    rows = {row: own for row, own in rows.items() if len(own) > 1 and max(min(own)) <= 1}
    if not rows:
        raise UserError(
            "no-layers",
            "a layer decay needs modules that are numbered, such as layer_0 and layer_1, and there are none in "
            f"{', '.join(sorted({path[0] for path in paths}))}: leave it out, or give groups of patterns",
        )
    outer = [next((p for p in several if p[0] in rows), None) for several in found]
    there = {place[0] for place in outer if place}
    there = there & blocks or there
    most = max(len(rows[row]) for row in there)
    chosen = {row: sorted(rows[row]) for row in there if len(rows[row]) == most}
    within = {
        "/".join(p) for p, place in zip(paths, outer, strict=True) if place and place[0] in chosen
    }
    first = [_FIRST] if any(map(_CONVOLVED.search, within)) else [_FIRST, _CONVOLVED]

    def layer_of(
        path: list[str], place: tuple[Row, list[Number]] | None
    ) -> tuple[list[int], list[str]]:
        if place is not None and place[0] in chosen:
            row, numbers = place
            own, word = [1 + chosen[row].index(number) for number in numbers], path[len(row) - 1]
            return own, [f"{word}[{n}]" for (n,) in numbers] if len(own) > 1 else [word]
        if place is not None:  # of a stage: comes before its first block
            (*above, _), (number, *_) = place
            beside = next((own for row, own in chosen.items() if list(row[:-1]) == above), [])
            stage = [n for n, own in enumerate(beside) if own[: len(number)] == number != own]
            if stage:
                return [1 + stage[0] if stage[0] else 0], [path[len(above)]]
        early = [] if any("head" in w for w in path) else path
        word = next((w for w in early for kind in first if kind.search(w)), "")
        return [0 if word else most + 1], [word or "/".join(path[:-1]) or path[0]]

    names: list[list[str]] = [[] for _ in range(most + 2)]
    each: list[Any] = []
    for path, (_, leaf), along, place in zip(paths, leaves, axes, outer, strict=True):
        own, said = layer_of(path, place)
        shape = [-1 if axis == along - 1 else 1 for axis in range(len(leaf.shape))]
        each.append(own[0] if len(own) == 1 else np.reshape(own, shape))
        for number, name in zip(own, said, strict=True):
            if name not in names[number]:
                names[number].append(name)
    return jax.tree.unflatten(jax.tree.structure(params), each), names


def exponents(params: Any, stacked: Any) -> tuple[Any, dict[int, list[str]]]:
    """How often each parameter's learning rate is multiplied by a layer decay: 0 in the last layer; and the
    modules by that number."""
    numbers, names = layers(params, stacked)
    last = max(number for number, own in enumerate(names) if own)
    said = {last - number: own for number, own in enumerate(names) if own}
    return jax.tree.map(lambda number: last - number, numbers), said


def layerwise(
    decay: float | jax.Array, stacked: Callable[[Any], Any]
) -> optax.GradientTransformation:
    """Updates scaled by ``decay`` once for every layer between their own and the last (Clark et al. 2020,
    "ELECTRA"; Bao et al. 2022, "BEiT"). Put it last in ``optax.chain``: it scales the learning rate."""
    bounded("layer_decay", decay, above=0, at_most=1)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        powers, _ = exponents(params, stacked(params))
        return jax.tree.map(
            lambda u, n: u * jnp.power(jnp.float32(decay), n).astype(u.dtype), updates, powers
        ), state

    def init(params: Any) -> Any:
        exponents(params, stacked(params))  # a mistake is told before the first step
        return optax.EmptyState()

    return optax.GradientTransformation(init, update)


def told(params: Any, stacked: Any, freeze: Sequence[str], decay: float | None) -> list[str]:
    """What is frozen, and which layers get which share of the learning rate, each in one sentence."""
    said = []
    if freeze:
        leaves = jax.tree.leaves(params)
        still = [place >= 0 for place in jax.tree.leaves(matching(freeze, params))]
        count = sum(leaf.size for leaf, f in zip(leaves, still, strict=True) if f)
        whole = sum(leaf.size for leaf in leaves)
        arrays = f"{sum(still)} of {len(leaves)} arrays"
        said.append(f"frozen: {arrays}, {count:,} of {whole:,} parameters")
    if decay is not None:
        _, names = exponents(params, stacked)
        parts = [f"{float(decay) ** n:.3g} {', '.join(own[:3])}" for n, own in names.items()]
        parts = [*parts[:3], "...", *parts[-2:]] if len(parts) > 8 else parts
        said.append(f"share of the learning rate by layer: {'; '.join(parts)}")
    return said

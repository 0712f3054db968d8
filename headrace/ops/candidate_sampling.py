"""Samplers of classes for losses that do not look at all of them.

In a program a kernel draws: how many draws distinct classes take is known only when they are drawn. Without the kernels the
samplers run on the host.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from headrace import native
from headrace.graph import shapes
from headrace.graph.op_def import Effect, OpDef, define
from headrace.io import file_io
from headrace.lowering import candidates, checks, philox
from headrace.native.sample import Distribution, sample

_OUTPUTS = "sampled_candidates: int64, true_expected_count: float, sampled_expected_count: float"
_BATCH = "num_true: int >= 1, num_sampled: int >= 1, unique: bool"
_SEEDS = "seed: int = 0, seed2: int = 0"


def _sampler_shape(op, true_classes):
    batch, _ = shapes.merge(op, true_classes, (None, op.attr("num_true")), "true_classes")
    sampled = (op.attr("num_sampled"),)
    return [sampled, (batch, op.attr("num_true")), sampled]


def _first_state(op):
    return philox.initial_state(op.attr("seed"), op.attr("seed2"))


def _define_sampler(name: str, attrs: str, fallible: bool = False) -> OpDef:
    definition = define(
        name,
        f"true_classes: int64 -> {_OUTPUTS}",
        f"{_BATCH}{attrs}, {_SEEDS}",
        effects=Effect.STATEFUL | Effect.RANDOM | (Effect.FALLIBLE if fallible else 0),
        lowers_if=native.available,
    )
    definition.shape(_sampler_shape)
    definition.initial_state(_first_state)
    return definition.not_differentiable()


def _check(op, true_classes, classes: int) -> None:
    """Refuses shapes, and numbers of classes, that do not fit."""
    if true_classes.ndim != 2 or true_classes.shape[1] != op.attr("num_true"):
        raise op.invalid(
            f"true_classes must have num_true = {op.attr('num_true')} columns, got shape {true_classes.shape}"
        )
    count = op.attr("num_sampled")
    if op.attr("unique") and count > classes:
        raise op.invalid(
            f"Sampler's range is too small: {count} different ones of {classes} classes"
        )


def _sample(op, state, true_classes, classes: int, draw, probability):
    """The outputs of a sampler with this distribution over `classes` classes."""
    _check(op, true_classes, classes)
    count = op.attr("num_sampled")
    sampled, tries = candidates.pick(state, count, op.attr("unique"), draw)
    expected = [
        candidates.expected_count(probability(values), count, tries)
        for values in (true_classes, sampled)
    ]
    return sampled, expected[0], expected[1]


def _sample_in_program(op, state, true_classes, classes, distribution, probability, **tables):
    """As `_sample`, traced; returns the outputs, how many draws there were, and the state after them."""
    _check(op, true_classes, classes)
    true_classes, count = jnp.asarray(true_classes), op.attr("num_sampled")
    drawn = sample(state, count, op.attr("unique"), distribution, classes, **tables)
    sampled, tries, after = drawn
    expected = [
        candidates.expected_count(probability(values), count, tries)
        for values in (true_classes, sampled)
    ]
    return (sampled, *expected), tries, after


# ---- UniformCandidateSampler

uniform_candidate_sampler = _define_sampler("UniformCandidateSampler", ", range_max: int >= 1")


@uniform_candidate_sampler.host
def _uniform_candidate_sampler_host(op, rng, true_classes):
    state, classes = rng.read(), op.attr("range_max")
    rng.write(candidates.after_batch(state, op.attr("num_sampled")))
    return _sample(
        op, state, true_classes, classes, candidates.uniform(classes),
        lambda values: np.full(values.shape, 1.0 / classes, np.float32),
    )  # fmt: skip


@uniform_candidate_sampler.lower
def _uniform_candidate_sampler_lower(op, rng, true_classes):
    classes = op.attr("range_max")
    results, _, state = _sample_in_program(
        op, rng.read(), true_classes, classes, Distribution.UNIFORM,
        lambda values: jnp.full(values.shape, 1.0 / classes, np.float32),
    )  # fmt: skip
    rng.write(state)
    return results


# ---- LogUniformCandidateSampler

log_uniform_candidate_sampler = _define_sampler(
    "LogUniformCandidateSampler", ", range_max: int >= 1"
)


@log_uniform_candidate_sampler.host
def _log_uniform_candidate_sampler_host(op, rng, true_classes):
    state, classes = rng.read(), op.attr("range_max")
    rng.write(candidates.after_batch(state, op.attr("num_sampled")))
    return _sample(
        op, state, true_classes, classes, candidates.log_uniform(classes),
        lambda values: candidates.log_uniform_probability(values, classes),
    )  # fmt: skip


@log_uniform_candidate_sampler.lower
def _log_uniform_candidate_sampler_lower(op, rng, true_classes):
    classes = op.attr("range_max")
    results, _, state = _sample_in_program(
        op, rng.read(), true_classes, classes, Distribution.LOG_UNIFORM,
        lambda values: candidates.log_uniform_probability(values, classes),
    )  # fmt: skip
    rng.write(state)
    return results


# ---- LearnedUnigramCandidateSampler, ThreadUnsafeUnigramCandidateSampler: the state holds, after
# the generator's, how often each class has been seen, and once more.


def _first_state_and_counts(op):
    counts = np.ones(op.attr("range_max"), np.uint32)
    return np.concatenate([_first_state(op), counts])


def _learned_unigram_host(op, rng, true_classes):
    if true_classes.size and not 0 <= true_classes.min() <= true_classes.max() < op.attr(
        "range_max"
    ):
        raise op.invalid(f"true_classes are not in [0, {op.attr('range_max')})")
    state = rng.read()
    generator, counts = state[:6], state[6:].astype(np.int64)
    total = np.float32(counts.sum())
    results = _sample(
        op, generator, true_classes, len(counts), candidates.weighted(counts),
        lambda values: counts[values].astype(np.float32) / total,
    )  # fmt: skip
    seen = np.bincount(true_classes.reshape(-1), minlength=len(counts))
    generator = candidates.after_batch(generator, op.attr("num_sampled"))
    rng.write(np.concatenate([generator, (counts + seen).astype(np.uint32)]))
    return results


def _learned_unigram_lower(op, rng, true_classes):
    classes = op.attr("range_max")
    true_classes = jnp.asarray(true_classes)
    outside = jnp.any((true_classes < 0) | (true_classes >= classes))
    checks.fail_if(op, outside, f"true_classes are not in [0, {classes})")
    state = rng.read()
    counts = state[6:]
    total = jnp.sum(counts.astype(np.int64)).astype(np.float32)
    results, _, generator = _sample_in_program(
        op, state[:6], true_classes, classes, Distribution.WEIGHTED,
        lambda values: counts[values].astype(np.float32) / total, counts=counts,
    )  # fmt: skip
    seen = state.at[6 + true_classes.reshape(-1)].add(np.uint32(1), mode="drop")
    rng.write(seen.at[:6].set(generator))
    return results


learned_unigram_candidate_sampler = _define_sampler(
    "LearnedUnigramCandidateSampler", ", range_max: int >= 1", fallible=True
)
thread_unsafe_unigram_candidate_sampler = _define_sampler(
    "ThreadUnsafeUnigramCandidateSampler", ", range_max: int >= 1", fallible=True
)
for _definition in (learned_unigram_candidate_sampler, thread_unsafe_unigram_candidate_sampler):
    _definition.host(_learned_unigram_host)
    _definition.lower(_learned_unigram_lower)
    _definition.initial_state(_first_state_and_counts)

# ---- FixedUnigramCandidateSampler

fixed_unigram_candidate_sampler = _define_sampler(
    "FixedUnigramCandidateSampler",
    ", range_max: int >= 1, vocab_file: string = '', distortion: float = 1.0, num_reserved_ids: int = 0, "
    "num_shards: int >= 1 = 1, shard: int >= 0 = 0, unigrams: list(float) = []",
    fallible=True,
)


def _unigrams(op) -> tuple[float, ...]:
    """The weights that the attrs give, directly or in the last column of a file of comma-separated lines."""
    vocab_file, unigrams = op.attr("vocab_file"), tuple(op.attr("unigrams"))
    if bool(vocab_file) == bool(unigrams):
        raise op.invalid("Must provide either vocab_file or unigrams, and only one of them.")
    if unigrams:
        return unigrams
    lines = file_io.read_file_to_string(vocab_file).splitlines()
    try:
        return tuple(float(line.rpartition(",")[2]) for line in lines)
    except ValueError as error:
        raise op.invalid(f"Wrong vocabulary format in {vocab_file}: {error}") from None


def _alias_table(op) -> candidates.AliasTable:
    table = candidates.alias_table(
        _unigrams(op), op.attr("distortion"), op.attr("num_reserved_ids"), op.attr("num_shards"), op.attr("shard")
    )  # fmt: skip
    classes = op.attr("range_max")
    if len(table.weights) != classes:
        raise op.invalid(f"range_max is {classes}, but there are {len(table.weights)} weights")
    return table


@fixed_unigram_candidate_sampler.host
def _fixed_unigram_candidate_sampler_host(op, rng, true_classes):
    table, state = _alias_table(op), rng.read()
    rng.write(candidates.after_batch(state, op.attr("num_sampled")))
    return _sample(op, state, true_classes, op.attr("range_max"), table.draw, table.probability)


@fixed_unigram_candidate_sampler.lower
def _fixed_unigram_candidate_sampler_lower(op, rng, true_classes):
    table = _alias_table(op)
    results, tries, state = _sample_in_program(
        op, rng.read(), true_classes, op.attr("range_max"), Distribution.ALIAS, table.probability,
        share=table.share, alias=table.alias,
    )  # fmt: skip
    if op.attr("unique"):
        few = f"fewer than {op.attr('num_sampled')} classes have a probability"
        checks.fail_if(op, tries < 0, few)
    rng.write(state)
    return results


# ---- AllCandidateSampler

all_candidate_sampler = _define_sampler("AllCandidateSampler", "")


@all_candidate_sampler.host
def _all_candidate_sampler_host(op, rng, true_classes):
    count = op.attr("num_sampled")
    rng.write(candidates.after_batch(rng.read(), count))
    ones = np.ones(true_classes.shape, np.float32), np.ones(count, np.float32)
    return np.arange(count), *ones


@all_candidate_sampler.lower
def _all_candidate_sampler_lower(op, rng, true_classes):
    count = op.attr("num_sampled")
    rng.write(candidates.after_batch(jnp.asarray(rng.read()), count))
    ones = jnp.ones(true_classes.shape, np.float32), jnp.ones(count, np.float32)
    return jnp.arange(count, dtype=np.int64), *ones


# ---- ComputeAccidentalHits

compute_accidental_hits = define(
    "ComputeAccidentalHits",
    "true_classes: int64, sampled_candidates: int64 -> indices: int32, ids: int64, weights: float",
    f"num_true: int, {_SEEDS}",
    host_only=True,
    dynamic_shape=True,
)


@compute_accidental_hits.shape
def _compute_accidental_hits_shape(op, true_classes, sampled_candidates):
    shapes.merge(op, true_classes, (None, op.attr("num_true")), "true_classes")
    shapes.with_rank(op, sampled_candidates, 1, "sampled_candidates")
    return [(None,)] * 3


@compute_accidental_hits.host
def _compute_accidental_hits_host(op, true_classes, sampled_candidates):
    if true_classes.ndim != 2 or true_classes.shape[1] != op.attr("num_true"):
        raise op.invalid(
            f"true_candidates must be a batch_size * num_true matrix, got shape {true_classes.shape}"
        )
    # Of a class that was sampled more than once the last place counts.
    order = np.argsort(sampled_candidates, kind="stable")
    found = np.searchsorted(sampled_candidates[order], true_classes.reshape(-1), side="right") - 1
    place = order[found] if len(order) else found
    hit = (
        (found >= 0) & (sampled_candidates[place] == true_classes.reshape(-1))
        if len(order)
        else found >= 0
    )
    rows = np.repeat(np.arange(len(true_classes), dtype=np.int32), true_classes.shape[1])
    weights = np.full(int(hit.sum()), np.finfo(np.float32).min, np.float32)
    return rows[hit], place[hit].astype(np.int64), weights


compute_accidental_hits.not_differentiable()

"""Classes drawn for sampled losses: `tf.nn.log_uniform_candidate_sampler`, ..., `tf.nn.compute_accidental_hits`.

A sampler returns (sampled_candidates int64[num_sampled], true_expected_count float32[batch,
num_true], sampled_expected_count float32[num_sampled]): the classes, and how often the true ones
and they are expected in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.api.export import export
from headrace.api.random_seed import get_seed
from headrace.graph import raw


def _seeds(seed: int | None) -> dict[str, int]:
    graph_seed, op_seed = get_seed(seed)
    return {"seed": graph_seed or 0, "seed2": op_seed or 0}


@export("random.uniform_candidate_sampler", "nn.uniform_candidate_sampler")
def uniform_candidate_sampler(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: int | None = None,
    name: str | None = None,
) -> Any:
    """Draws from all classes alike.

    true_classes: int64[batch, num_true]. unique: no class twice. range_max: number of classes.
    """
    return raw.UniformCandidateSampler(
        true_classes, num_true=num_true, num_sampled=num_sampled, unique=unique, range_max=range_max,
        **_seeds(seed), name=name,
    )  # fmt: skip


@export("random.log_uniform_candidate_sampler", "nn.log_uniform_candidate_sampler")
def log_uniform_candidate_sampler(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: int | None = None,
    name: str | None = None,
) -> Any:
    """Draws class k in proportion to log((k + 2) / (k + 1)): for words in the order of their frequency.

    true_classes: int64[batch, num_true]. unique: no class twice. range_max: number of classes.
    """
    return raw.LogUniformCandidateSampler(
        true_classes, num_true=num_true, num_sampled=num_sampled, unique=unique, range_max=range_max,
        **_seeds(seed), name=name,
    )  # fmt: skip


@export("random.learned_unigram_candidate_sampler", "nn.learned_unigram_candidate_sampler")
def learned_unigram_candidate_sampler(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: int | None = None,
    name: str | None = None,
) -> Any:
    """Draws classes as often as they were among the true ones of earlier runs.

    true_classes: int64[batch, num_true]. unique: no class twice. range_max: number of classes.
    """
    return raw.LearnedUnigramCandidateSampler(
        true_classes, num_true=num_true, num_sampled=num_sampled, unique=unique, range_max=range_max,
        **_seeds(seed), name=name,
    )  # fmt: skip


@export("random.fixed_unigram_candidate_sampler", "nn.fixed_unigram_candidate_sampler")
def fixed_unigram_candidate_sampler(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    vocab_file: str = "",
    distortion: float = 1.0,
    num_reserved_ids: int = 0,
    num_shards: int = 1,
    shard: int = 0,
    unigrams: Sequence[float] = (),
    seed: int | None = None,
    name: str | None = None,
) -> Any:
    """Draws classes in proportion to given weights to the power `distortion`.

    true_classes: int64[batch, num_true]. unique: no class twice. range_max: number of classes.
    unigrams: the weights; or vocab_file: a file with a class per line, its weight after the last
    comma.
    num_reserved_ids: so many classes of weight 0 come first. num_shards, shard: draw from every
    num_shards-th class.
    """
    return raw.FixedUnigramCandidateSampler(
        true_classes, num_true=num_true, num_sampled=num_sampled, unique=unique, range_max=range_max,
        vocab_file=vocab_file, distortion=distortion, num_reserved_ids=num_reserved_ids, num_shards=num_shards,
        shard=shard, unigrams=list(unigrams), **_seeds(seed), name=name,
    )  # fmt: skip


@export("random.all_candidate_sampler", "nn.all_candidate_sampler")
def all_candidate_sampler(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    seed: int | None = None,
    name: str | None = None,
) -> Any:
    """Draws every class once: for checking a sampled loss against the full one. num_sampled: number of classes."""
    return raw.AllCandidateSampler(
        true_classes, num_true=num_true, num_sampled=num_sampled, unique=unique, **_seeds(seed), name=name
    )  # fmt: skip


@export("nn.compute_accidental_hits")
def compute_accidental_hits(
    true_classes: Any,
    sampled_candidates: Any,
    num_true: int,
    seed: int | None = None,
    name: str | None = None,
) -> Any:
    """Where sampled classes are true ones: rows int32[n], places among the samples int64[n], and float32[n] of -max."""
    return raw.ComputeAccidentalHits(
        true_classes, sampled_candidates, num_true=num_true, **_seeds(seed), name=name
    )

"""Options of a dataset: what may be changed about how it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.api.export import export


class OptionsBase:
    """A set of options; one that was not set has its default."""

    _options: dict[str, Any]

    def __init__(self) -> None:
        object.__setattr__(self, "_options", {})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        names = self._options.keys() | other._options.keys()
        return all(getattr(self, name) == getattr(other, name) for name in names)

    __hash__ = None  # type: ignore[assignment]

    def __setattr__(self, name: str, value: Any) -> None:
        if not hasattr(self, name):
            raise AttributeError(f"Cannot set the property {name} on {type(self).__name__}.")
        object.__setattr__(self, name, value)


def _option(name: str, kind: type, doc: str, default: Callable[[], Any] = lambda: None) -> Any:
    def get(self: OptionsBase) -> Any:
        return self._options.setdefault(name, default())

    def set(self: OptionsBase, value: Any) -> None:
        if not isinstance(value, (kind, type(None))):
            raise TypeError(
                f'Property "{name}" must be of type {kind}, got: {value!r} (type: {type(value)!r})'
            )
        self._options[name] = value

    return property(get, set, None, doc)


def merged(*options: Any) -> Any:
    """What several sets of options say together. Raises TypeError: of different kinds; ValueError: they contradict."""
    if not options:
        raise ValueError("At least one options should be provided")
    kind = type(options[0])
    if not all(isinstance(o, kind) for o in options):
        raise TypeError(f"Incompatible options type: {[type(o) for o in options]!r}")
    if not issubclass(kind, OptionsBase):
        raise TypeError("The inputs should inherit from `OptionsBase`")
    default, result = kind(), kind()
    for one in options:
        for name in list(one._options):
            this, that = getattr(result, name), getattr(one, name)
            if that == getattr(default, name):
                continue
            if this == getattr(default, name):
                setattr(result, name, that)
            elif isinstance(this, OptionsBase):
                setattr(result, name, merged(this, that))
            elif this != that:
                raise ValueError(
                    f"Cannot merge incompatible values ({this!r} and {that!r}) of option: {name}"
                )
    return result


@export("data.experimental.DistributeOptions")
class DistributeOptions(OptionsBase):
    """How a dataset is shared out to workers."""

    auto_shard = _option("auto_shard", bool, "Whether workers get different parts.", lambda: True)
    _make_stateless = _option("_make_stateless", bool, "Whether state is taken away.")
    num_devices = _option("num_devices", int, "The number of devices of one worker.")


@export("data.experimental.MapVectorizationOptions")
class MapVectorizationOptions(OptionsBase):
    """Whether functions are applied to batches. Kept, and without effect."""

    enabled = _option("enabled", bool, "Whether functions are applied to batches.")
    use_choose_fastest = _option("use_choose_fastest", bool, "Whether the faster way is chosen.")


_FUSIONS = (
    "filter_fusion",
    "filter_with_random_uniform_fusion",
    "hoist_random_uniform",
    "map_and_batch_fusion",
    "map_and_filter_fusion",
    "map_fusion",
    "map_parallelization",
    "noop_elimination",
    "parallel_batch",
    "shuffle_and_repeat_fusion",
)
_DEFAULTS = ("map_and_batch_fusion", "noop_elimination", "shuffle_and_repeat_fusion")


@export("data.experimental.OptimizationOptions")
class OptimizationOptions(OptionsBase):
    """Which changes TensorFlow may make to a pipeline. Here only `shuffle_and_repeat_fusion` has an effect."""

    apply_default_optimizations = _option(
        "apply_default_optimizations", bool, "Whether those that are on by default are on."
    )
    autotune = _option("autotune", bool, "Whether numbers of threads and buffers are tuned.")
    autotune_algorithm = _option("autotune_algorithm", int, "How they are tuned.")
    autotune_buffers = _option("autotune_buffers", bool, "Whether sizes of buffers are tuned.")
    autotune_cpu_budget = _option("autotune_cpu_budget", int, "How many processors may be used.")
    map_vectorization = _option(
        "map_vectorization",
        MapVectorizationOptions,
        "Whether functions are applied to batches.",
        MapVectorizationOptions,
    )

    def _static_optimizations(self) -> list[str]:
        wanted = [name for name in _FUSIONS if getattr(self, name) is True]
        if self.apply_default_optimizations is not False:
            wanted += [name for name in _DEFAULTS if getattr(self, name) is None]
        if self.map_vectorization is not None and self.map_vectorization.enabled:
            wanted.append("map_vectorization")
        return sorted(wanted)


for _name in _FUSIONS:
    setattr(OptimizationOptions, _name, _option(_name, bool, f"Whether `{_name}` is on."))


@export("data.experimental.StatsOptions")
class StatsOptions(OptionsBase):
    """Which statistics are taken. Kept, and without effect."""

    aggregator = _option("aggregator", object, "Where they go.")
    prefix = _option("prefix", str, "Put before the names.", lambda: "")
    counter_prefix = _option("counter_prefix", str, "Put before the names of counters.", lambda: "")
    latency_all_edges = _option("latency_all_edges", bool, "Whether each step is timed.")


@export("data.experimental.ThreadingOptions")
class ThreadingOptions(OptionsBase):
    """How many threads a pipeline has."""

    max_intra_op_parallelism = _option("max_intra_op_parallelism", int, "Within one operation.")
    private_threadpool_size = _option("private_threadpool_size", int, "A pool of its own.")


@export("data.Options")
class Options(OptionsBase):
    """Options of a dataset, for `Dataset.with_options`."""

    experimental_deterministic = _option(
        "experimental_deterministic", bool, "Whether the order is always the same (yes)."
    )
    experimental_distribute = _option(
        "experimental_distribute", DistributeOptions, "How workers share.", DistributeOptions
    )
    experimental_optimization = _option(
        "experimental_optimization", OptimizationOptions, "Which changes.", OptimizationOptions
    )
    experimental_slack = _option("experimental_slack", bool, "Kept, and without effect.")
    experimental_stats = _option(
        "experimental_stats", StatsOptions, "Which statistics.", StatsOptions
    )
    experimental_threading = _option(
        "experimental_threading", ThreadingOptions, "How many threads.", ThreadingOptions
    )
    experimental_stateful_whitelist = _option(
        "experimental_stateful_whitelist", list, "Operations whose state a checkpoint leaves out."
    )

    def merge(self, options: Options) -> Options:
        """Both together. Raises ValueError: they contradict."""
        return merged(self, options)

    def _static_optimization_configs(self) -> list[str]:
        vectorization = self.experimental_optimization.map_vectorization
        fastest = vectorization is not None and bool(vectorization.use_choose_fastest)
        return [f"map_vectorization:use_choose_fastest:{str(fastest).lower()}"]

    def _static_optimizations(self) -> list[str]:
        found = self.experimental_optimization._static_optimizations()
        if self.experimental_deterministic is False:
            found.append("make_sloppy")
        if self.experimental_slack:
            found.append("slack")
        return found

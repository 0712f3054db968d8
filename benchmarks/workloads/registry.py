"""What a workload is: one task, written once per framework.

    mlp = workload("mlp", "small network, Adam", full={"batch": 64}, tiny={"batch": 4})

    @mlp.tf
    def _mlp_tf(tf, size): ...  # builds the program, returns a function that takes one step

Headrace and TensorFlow run the same `tf` builder. A step returns a number that all contenders must agree on at the first step
(a loss, a mean), or None. Weights and batches come from NumPy's seeded generator, so that all do the same work.
"""

from types import SimpleNamespace

WORKLOADS = {}

# How long something takes is told in one of three ways:
# STEP: a process builds once; slices of steps are timed in turns.
# EVENT: each sample is a process of its own (start-up, imports, compilation); the step is called once and is timed, or returns
#     what was measured where `unit` is not seconds. With `imports`, importing the framework counts too.
STEP, EVENT = "step", "event"


class Workload:
    def __init__(self, name, title, full, tiny, kind, unit, train, tolerance, cache, imports):
        self.name, self.title, self.kind, self.unit = name, title, kind, unit
        self.full, self.tiny = full, tiny
        # Whether its peak memory counts: a training step.
        self.train = train
        # How far apart first results may lie, relative to the greatest; None where there is nothing to compare.
        self.tolerance = tolerance
        # None, "cold" (each process with an empty compilation cache) or "warm" (all with the cache that one before has filled).
        self.cache = cache
        # Whether the time of an event begins with the import of the framework.
        self.imports = imports
        self.builders = {}

    def tf(self, builder):
        self.builders["tf"] = builder
        return builder

    def torch(self, builder):
        self.builders["torch"] = builder
        return builder

    def jax(self, builder):
        self.builders["jax"] = builder
        return builder

    def size(self, tiny):
        return SimpleNamespace(**{**self.full, **(self.tiny if tiny else {})})


def workload(
    name,
    title,
    *,
    full=None,
    tiny=None,
    kind=STEP,
    unit="s",
    train=False,
    tolerance=1e-3,
    cache=None,
    imports=False,
):
    """Registers a workload; `tiny` overrides those of the sizes in `full` that a quick test makes smaller."""
    if name in WORKLOADS:
        raise ValueError(f"There are two workloads named {name!r}.")
    WORKLOADS[name] = Workload(
        name, title, full or {}, tiny or {}, kind, unit, train, tolerance, cache, imports
    )
    return WORKLOADS[name]

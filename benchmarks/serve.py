"""Runs one workload for one contender, in a process of its own: `python -m benchmarks.serve '{"workload": "mlp", ...}'`.

Answers with one line of JSON when the first step is done, then with one for each line read: a number of seconds is a slice of
steps, an empty line the end.
"""

import functools
import json
import os
import resource
import sys
import time
from pathlib import Path

# What each contender imports. A release of TensorFlow before 2 has `compat.v1` too.
MODULES = {
    "headrace": ("headrace", "tf"),
    "tensorflow": ("tensorflow.compat.v1", "tf"),
    "torch": ("torch", "torch"),
    "jax": ("jax", "jax"),
}


def load(contender):
    """(the framework's module, which of a workload's builders is its own)."""
    import importlib

    module, builder = MODULES[contender]
    framework = importlib.import_module(module)
    if contender == "tensorflow":
        framework.disable_v2_behavior()
        framework.logging.set_verbosity(framework.logging.ERROR)
    return framework, builder


def in_half(contender, framework, build):
    """`build` as a builder whose steps compute in bfloat16, where the framework's automatic mixed precision chooses to."""
    if contender == "torch":
        autocast = functools.partial(framework.autocast, "cpu", dtype=framework.bfloat16)
        # Casts of parameters are kept as long as the block is open: one for each step.
        return lambda *args: autocast()(build(*args))
    config = framework.ConfigProto()
    config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1
    framework.Session = functools.partial(framework.Session, config=config)
    return build


def version(contender):
    import importlib

    told = importlib.import_module(contender).__version__
    if contender == "headrace" and not importlib.import_module("headrace.native").available():
        return f"{told} WITHOUT ITS NATIVE KERNELS"
    return told


# A large program is compiled beside the first steps; from the next one on it runs.
SETTLING_STEPS = 6


def slice_of_steps(step, seconds, least=1):
    """Steps for so many seconds, and at least so many: their times, and the CPU time per step."""
    times = []
    clock = time.perf_counter
    cpu = time.process_time()
    end = clock() + seconds
    before = clock()
    while True:
        step()
        now = clock()
        times.append(now - before)
        if now >= end and len(times) >= least:
            break
        before = now
    return {"times": _thinned(times), "cpu": (time.process_time() - cpu) / len(times)}


def _thinned(times, most=501):
    """The times, or where there are many, evenly spaced ones of the sorted times: their median is the same."""
    if len(times) <= most:
        return times
    times.sort()
    return [times[i * (len(times) - 1) // (most - 1)] for i in range(most)]


def peak():
    """The greatest memory so far, in megabytes: of this program alone, which `ru_maxrss` is not (it counts what started it)."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def serve(order, lines, answer):
    if order["core"] is not None:
        os.sched_setaffinity(0, {order["core"]})
    start, cpu = time.perf_counter(), time.process_time()
    framework, builder = load(order["contender"])
    imported, imported_cpu = time.perf_counter() - start, time.process_time() - cpu
    from benchmarks.workloads import EVENT, WORKLOADS

    workload = WORKLOADS[order["workload"]]
    start, cpu = time.perf_counter(), time.process_time()
    build = workload.builders[builder]
    if order["half"]:
        build = in_half(order["contender"], framework, build)
    step = build(framework, workload.size(order["tiny"]))
    built = time.perf_counter()
    first = step() if step else None
    end = time.perf_counter()
    report = {
        "first": first,
        "import": imported,
        "build": built - start,
        "first_step": end - built,
        "version": version(order["contender"]),
        "cpu": time.process_time() - cpu,
        "memory": peak(),
    }
    if workload.kind == EVENT:
        if step is None:
            report["value"], report["cpu"] = imported, imported_cpu
        elif workload.unit == "s":
            report["value"] = end - start
            if workload.imports:
                report["value"] += imported
                report["cpu"] += imported_cpu
        else:
            report["value"] = first
        answer(report)
        return
    slice_of_steps(step, order["seconds"], SETTLING_STEPS)  # compilers and caches settle
    answer(report)
    for line in lines:
        if not line.strip():
            break
        answer(slice_of_steps(step, float(line)))
    answer({"memory": peak()})


def main():
    # What frameworks print must not come between the answers.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(report):
        channel.write(json.dumps(report) + "\n")
        channel.flush()

    serve(json.loads(sys.argv[1]), sys.stdin, answer)


if __name__ == "__main__":
    main()

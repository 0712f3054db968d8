"""Measures Headrace beside TensorFlow, PyTorch and JAX.

    python -m benchmarks                                   every workload, every contender (about half an hour)
    python -m benchmarks mlp resnet20                      some workloads; --list names them
    python -m benchmarks char_rnn lengths --python tensorflow=/path/to/python --contenders headrace,tensorflow

Contenders take turns slice by slice, in processes of their own; medians are compared. Virtual environments for them are made
in benchmarks/environments when no Python is named. On a busy machine use --core: everything on one core, and CPU time counts.
With --half each computes in bfloat16 what its automatic mixed precision chooses (not JAX, which has none).
A report goes to benchmarks/results: JSON, a table, a picture.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # for `python benchmarks/run.py`

from benchmarks import report
from benchmarks.contenders import CONTENDERS, interpreter
from benchmarks.measure import Plan, disagreement, measure
from benchmarks.workloads import WORKLOADS


def arguments(argv):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workloads", nargs="*", metavar="workload", help="default: all")
    parser.add_argument("--list", action="store_true", help="name the workloads")
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--python", action="append", default=[], metavar="CONTENDER=PATH")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a slice")
    parser.add_argument("--turns", type=int, default=7, help="slices of each contender")
    parser.add_argument("--samples", type=int, default=3, help="of what needs a new process")
    parser.add_argument("--core", type=int, help="pin everything to this core, compare CPU time")
    parser.add_argument(
        "--half", action="store_true", help="bfloat16 by each one's automatic mixed precision"
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes: does it run at all?")
    parser.add_argument("--name", help="of the report; without it nothing is written")
    options = parser.parse_args(argv)
    for kind, known, named in (
        ("workload", WORKLOADS, options.workloads),
        ("contender", CONTENDERS, options.contenders.split(",")),
        ("contender", CONTENDERS, [item.partition("=")[0] for item in options.python]),
    ):
        for name in named:
            if name not in known:
                parser.error(f"there is no {kind} {name!r}; there are {', '.join(known)}")
    return options


def main(argv=None):
    options = arguments(argv)
    if options.list:
        for workload in WORKLOADS.values():
            print(f"{workload.name:32} {workload.title}")
        return
    # JAX has no automatic mixed precision.
    contenders = [c for c in options.contenders.split(",") if c != "jax" or not options.half]
    given = dict(item.split("=", 1) for item in options.python)
    pythons = {contender: interpreter(contender, given) for contender in contenders}
    plan = Plan(
        pythons,
        options.seconds,
        options.turns,
        options.samples,
        options.core,
        options.tiny,
        options.half,
    )
    by_cpu = options.core is not None
    facts = {"date": report.now(), "machine": report.machine(), "load": [os.getloadavg()[0]]}
    measured = {}
    for name in options.workloads or WORKLOADS:
        results = measured[name] = measure(WORKLOADS[name], contenders, plan)
        _progress(name, results, by_cpu, options.half)
        facts["load"][1:] = [os.getloadavg()[0]]
        if options.name:  # anew after each workload: a run that is broken off leaves what it found
            report.write(measured, contenders, by_cpu, facts, options.name)
    print(report.text(measured, contenders, by_cpu, facts))


# bfloat16 has eight bits.
HALF_TOLERANCE = 0.05


def _progress(name, results, by_cpu, half):
    workload = WORKLOADS[name]
    told = [
        f"{contender} {result.error or report.amount(result.value(by_cpu), workload.unit)}"
        for contender, result in results.items()
    ]
    apart = disagreement(workload, results)
    if apart is not None and apart > max(workload.tolerance, HALF_TOLERANCE if half else 0):
        told.append(f"FIRST RESULTS {apart:.2%} APART: {[r.first for r in results.values()]}")
    print(f"{name}: {', '.join(told)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

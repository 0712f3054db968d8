"""Contenders take turns, slice by slice, in processes of their own, so that whatever else the machine does meets all of them."""

import json
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

from benchmarks.contenders import ROOT, environment
from benchmarks.serve import MODULES
from benchmarks.workloads import STEP

# An event that has taken all contenders so many seconds is not sampled once more.
LONG_EVENT = 60.0


@dataclass
class Plan:
    """How long and where: `seconds` of a slice, number of `turns`, `samples` of an event; the `core` for all (None: any).

    half: in bfloat16 where the contender's automatic mixed precision chooses to.
    """

    pythons: dict
    seconds: float = 0.5
    turns: int = 7
    samples: int = 3
    core: int | None = None
    tiny: bool = False
    half: bool = False


@dataclass
class Result:
    """What a contender did in a workload: samples of wall and CPU time, or of what an event measures."""

    wall: list = field(default_factory=list)
    cpu: list = field(default_factory=list)
    first: float | None = None
    memory: float = 0.0
    version: str = ""
    details: dict = field(default_factory=dict)
    error: str = ""

    def value(self, by_cpu):
        samples = self.cpu if by_cpu and self.cpu else self.wall
        return statistics.median(samples) if samples else None


class Failure(Exception):
    pass


class Child:
    """A process that serves one workload."""

    def __init__(self, plan, workload, contender, cache=None):
        order = {
            "workload": workload.name,
            "contender": contender,
            "tiny": plan.tiny,
            "half": plan.half,
            "seconds": plan.seconds,
            "core": plan.core,
        }
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [plan.pythons[contender], "-m", "benchmarks.serve", json.dumps(order)],
            cwd=ROOT,
            env=environment(contender, plan.core, cache),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            last = self.errors.read().strip().splitlines()[-1:] or ["no message"]
            raise Failure(f"exit status {self.process.returncode}: {last[0][:300]}")
        return json.loads(line)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()


def measure(workload, contenders, plan):
    """{contender: Result} for those of the contenders that can do the workload."""
    contenders = [c for c in contenders if MODULES[c][1] in workload.builders]
    results = {contender: Result() for contender in contenders}
    (_steps if workload.kind == STEP else _events)(workload, results, plan)
    return results


def _note(result, report):
    result.first, result.version = report["first"], report["version"]
    result.memory = max(result.memory, report["memory"])
    result.details = {name: report[name] for name in ("import", "build", "first_step")}


def _steps(workload, results, plan):
    children = {contender: Child(plan, workload, contender) for contender in results}

    def guarded(contender, action):
        """The action's answer; None, and the contender is out, if it fails."""
        try:
            return action(children[contender])
        except (Failure, OSError) as error:
            results[contender].error = str(error)
            children.pop(contender).end()

    for contender in list(children):
        report = guarded(contender, Child.answer)
        if report:
            _note(results[contender], report)
    for _ in range(plan.turns):
        for contender in list(children):
            report = guarded(contender, lambda child: child.ask(str(plan.seconds)))
            if report:
                results[contender].wall += report["times"]
                results[contender].cpu.append(report["cpu"])
    for contender in list(children):
        report = guarded(contender, lambda child: child.ask(""))
        if report:
            results[contender].memory = report["memory"]
            children[contender].end()


def _events(workload, results, plan):
    """Each sample is a fresh process; of an event in seconds so many that slow ones do not take for ever."""
    with tempfile.TemporaryDirectory(prefix="compiled-") as folder:
        warm = {c: f"{folder}/{c}" for c in results} if workload.cache == "warm" else {}
        turns = plan.samples if workload.unit == "s" else 1
        start = time.monotonic()
        for turn in range(turns + bool(warm)):
            if turn > bool(warm) and time.monotonic() - start > LONG_EVENT:
                break
            for contender, result in results.items():
                if result.error:
                    continue
                cache = warm.get(contender)
                if workload.cache == "cold":
                    cache = f"{folder}/{contender}-{turn}"
                child = Child(plan, workload, contender, cache)
                try:
                    report = child.answer()
                except Failure as error:
                    result.error = str(error)
                else:
                    if turn or not warm:  # the first of the warm ones fills the cache
                        result.wall.append(report["value"])
                        if workload.unit == "s":
                            result.cpu.append(report["cpu"])
                    _note(result, report)
                finally:
                    child.end()


def disagreement(workload, results):
    """How far apart the first results lie, relative to the greatest; None where there is nothing to compare."""
    first = [r.first for r in results.values() if r.first is not None and not r.error]
    if workload.tolerance is None or len(first) < 2:
        return None
    return (max(first) - min(first)) / max(map(abs, first))

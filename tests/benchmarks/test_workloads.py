"""Every workload of the benchmarks builds and takes steps in Headrace, at a small size; the report can be written."""

import json
import math
import time

import pytest

import headrace as tf
from benchmarks import report, run, serve
from benchmarks.measure import Result, disagreement
from benchmarks.workloads import EVENT, WORKLOADS

# The base of a first step's workload is itself in the list; what imports, has been imported.
ONCE = {"import", *(name for name in WORKLOADS if name.startswith("first_step_"))}


@pytest.mark.parametrize("name", sorted(set(WORKLOADS) - ONCE))
def test_a_workload_takes_steps(name):
    workload = WORKLOADS[name]
    builders = workload.builders.get("tf")
    if builders is None:
        pytest.fail(f"{name} has no builder for Headrace.")
    with tf.Graph().as_default():
        step = builders(tf, workload.size(tiny=True))
        first = step()
        if workload.kind != EVENT:
            step()
    if workload.tolerance is not None:
        assert math.isfinite(first)


def test_first_steps_are_those_of_other_workloads():
    for name in ONCE - {"import"}:
        base = WORKLOADS[name.removeprefix("first_step_").rpartition("_")[0]]
        assert WORKLOADS[name].builders == base.builders
        assert WORKLOADS[name].cache in ("cold", "warm")


def _results():
    return {
        "headrace": Result(wall=[0.002, 0.001, 0.003], cpu=[0.002], first=2.0, version="1"),
        "tensorflow": Result(wall=[0.004], cpu=[0.001], first=2.0, version="2"),
        "torch": Result(error="exit status 1: none"),
    }


def test_ratios_and_tables():
    measured = {"mlp": _results()}
    contenders = list(_results())
    assert report.ratios(_results(), by_cpu=False) == {"tensorflow": 2.0}
    assert report.ratios(_results(), by_cpu=True) == {"tensorflow": 0.5}
    header, line = report.rows(measured, contenders, by_cpu=False)
    assert header[1:4] == ["Headrace", "TensorFlow", "PyTorch"]
    assert line[1:] == ["2.00 ms", "4.00 ms", "failed", "2.00", "-", "agree"]
    means = report.geometric_means(measured, by_cpu=False)
    assert means["the faster of TensorFlow and PyTorch"] == pytest.approx(2.0)


def test_first_results_that_differ_are_told():
    results = _results()
    results["tensorflow"].first = 2.2
    assert disagreement(WORKLOADS["mlp"], results) == pytest.approx(0.2 / 2.2)
    assert disagreement(WORKLOADS["normals"], results) is None
    *_, line = report.rows({"mlp": results}, list(results), by_cpu=False)
    assert line[-1] == "9.1% apart"


def test_a_report_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    facts = {"date": report.now(), "machine": report.machine(), "load": [0.5, 1.0]}
    path = report.write({"mlp": _results()}, list(_results()), False, facts, "trial")
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["workloads"]["mlp"]["contenders"]["headrace"]["median"] == 0.002
    assert "PyTorch failed in mlp" in path.with_suffix(".md").read_text()
    assert path.with_suffix(".svg").read_text().startswith("<svg")


def test_means_are_told_without_what_does_nothing():
    slow = {**_results(), "tensorflow": Result(wall=[0.2], first=2.0)}
    measured = {"mlp": _results(), "noop": slow}
    assert report.geometric_means(measured, False)["TensorFlow"] == pytest.approx(200**0.5)
    assert report.geometric_means(measured, False, report.NOTHING)["TensorFlow"] == 2.0
    facts = {"date": "", "machine": report.machine(), "load": [0.5, 1.0]}
    told = report.text(measured, list(_results()), False, facts)
    assert 'without "a run of an operation without work": TensorFlow 2.00;' in told
    assert "With it: TensorFlow 14.14;" in told and "Ratios below 1: none." in told
    assert "Ratios below 1: MLP 784-128-128-10, batch 64, Adam (TensorFlow 0.50)" in report.text(
        {"mlp": _results()}, list(_results()), True, facts
    )
    drawing = report.picture(measured, False)
    assert ">100</text>" in drawing and ">2</text>" in drawing  # beyond the axis, and a line of it


def test_an_event_may_begin_with_the_imports(monkeypatch):
    monkeypatch.setattr(serve, "load", lambda contender: (time.sleep(0.2), (tf, "tf"))[1])
    seconds = {}
    for name in ("first_steps_mlp", "first_step_mlp_cold"):
        answers = []
        order = {
            "workload": name,
            "contender": "headrace",
            "tiny": True,
            "half": False,
            "core": None,
        }
        serve.serve(order, [], answers.append)
        seconds[name] = answers[0]["value"] - answers[0]["first_step"] - answers[0]["build"]
    assert seconds["first_steps_mlp"] == pytest.approx(0.2, abs=0.05)
    assert seconds["first_step_mlp_cold"] == pytest.approx(0.0, abs=0.05)


def test_a_report_tells_that_kernels_are_missing(monkeypatch):
    monkeypatch.setattr(tf.native, "available", lambda: True)
    assert serve.version("headrace") == tf.__version__
    monkeypatch.setattr(tf.native, "available", lambda: False)
    assert serve.version("headrace") == f"{tf.__version__} WITHOUT ITS NATIVE KERNELS"


def test_the_command_serves_a_workload_in_a_process_of_its_own(capsys):
    run.main(["scalar_feed", "--contenders", "headrace", "--tiny", "--turns=1", "--seconds=0.001"])
    out = capsys.readouterr()
    assert "scalar_feed: headrace" in out.err
    assert "| feed a scalar, fetch its double |" in out.out
    assert "failed" not in out.out


def test_unknown_names_are_refused_with_those_that_exist(capsys):
    with pytest.raises(SystemExit):
        run.main(["no_such_workload"])
    assert "there is no workload 'no_such_workload'; there are" in capsys.readouterr().err

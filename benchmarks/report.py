"""What was measured, as a table, as JSON and as a picture."""

import json
import math
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.contenders import TITLES
from benchmarks.measure import disagreement
from benchmarks.workloads import STEP, WORKLOADS

RESULTS = Path(__file__).parent / "results"
COLOURS = {"tensorflow": "#e8710a", "torch": "#1565c0", "jax": "#7b1fa2"}

# Workloads in which nothing is computed: their ratios, of what a call costs, are far from all others and lift a mean.
NOTHING = ("noop",)


def amount(value, unit="s"):
    """Three digits and a unit."""
    if value is None:
        return "-"
    if unit != "s":
        return f"{value:.0f} {unit}"
    for factor, name in ((1, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.{max(0, 2 - int(math.log10(value * factor)))}f} {name}"
    return f"{value * 1e6:.3g} us"


def ratios(results, by_cpu):
    """{peer: its time over Headrace's}: above 1, Headrace is the faster one."""
    own = results["headrace"].value(by_cpu) if "headrace" in results else None
    if not own:
        return {}
    values = {name: r.value(by_cpu) for name, r in results.items() if name != "headrace"}
    return {name: value / own for name, value in values.items() if value is not None}


def rows(measured, contenders, by_cpu):
    """The lines of the table, each a list of cells."""
    peers = [c for c in contenders if c != "headrace"]
    head = [TITLES[c] for c in contenders] + [f"{TITLES[c]} / Headrace" for c in peers]
    yield ["workload", *head, "first results"]
    for name, results in measured.items():
        workload = WORKLOADS[name]
        found = ratios(results, by_cpu) if workload.unit == "s" else {}
        cells = [workload.title]
        for contender in contenders:
            result = results.get(contender)
            failed = result is not None and result.error
            value = result.value(by_cpu) if result else None
            cells.append("failed" if failed else amount(value, workload.unit))
        cells += [f"{found[c]:.2f}" if c in found else "-" for c in peers]
        apart = disagreement(workload, results)
        if apart is None:
            cells.append("-")
        else:
            agrees = apart <= workload.tolerance
            cells.append("agree" if agrees else f"{apart:.1%} apart")
        yield cells


def memory_rows(measured, contenders):
    yield ["peak memory, MB", *(TITLES[c] for c in contenders)]
    for name, results in measured.items():
        if WORKLOADS[name].train and WORKLOADS[name].kind == STEP:
            cells = [f"{results[c].memory:.0f}" if c in results else "-" for c in contenders]
            yield [WORKLOADS[name].title, *cells]


def geometric_means(measured, by_cpu, without=()):
    """{peer or "the faster of TensorFlow and PyTorch": geometric mean of its ratios} over the workloads of repeated steps.

    without: names of workloads that do not count.
    """
    collected = {}
    for name, results in measured.items():
        if WORKLOADS[name].kind != STEP or name in without:
            continue
        found = ratios(results, by_cpu)
        for peer, ratio in found.items():
            collected.setdefault(TITLES[peer], []).append(ratio)
        rivals = [found[c] for c in ("tensorflow", "torch") if c in found]
        if rivals:
            title = "the faster of TensorFlow and PyTorch"
            collected.setdefault(title, []).append(min(rivals))
        if found:
            collected.setdefault("the fastest of all", []).append(min(found.values()))
    return {
        title: math.exp(sum(map(math.log, values)) / len(values))
        for title, values in collected.items()
    }


def markdown(lines):
    """A table in Markdown whose columns are aligned."""
    lines = [list(cells) for cells in lines]
    widths = [max(len(cells[i]) for cells in lines) for i in range(len(lines[0]))]

    def line(cells):
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths))]  # fmt: skip
        return "| " + " | ".join(padded) + " |"

    rule = [("-" * w) if i == 0 else ("-" * (w - 1) + ":") for i, w in enumerate(widths)]
    return "\n".join([line(lines[0]), line(rule), *map(line, lines[1:])])


def machine():
    """What was measured on, and how busy it was."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(x for x in file if x.startswith("model name")).split(":")[1].strip()
    except (OSError, StopIteration):
        pass
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def text(measured, contenders, by_cpu, facts):
    """The whole report in Markdown."""
    versions = {}
    for results in measured.values():
        for contender, result in results.items():
            if result.version:
                versions[contender] = result.version
    named = ", ".join(f"{TITLES[c]} {versions[c]}" for c in contenders if c in versions)
    loads = ", ".join(f"{load:.1f}" for load in facts["load"])
    what = "CPU time on one core" if by_cpu else "wall time"
    parts = [
        f"{facts['date']}: {named}. {facts['machine']['processor']}, {facts['machine']['cores']} cores; "
        f"load average at the beginning and at the end: {loads}. Medians of {what}.",
        markdown(rows(measured, contenders, by_cpu)),
    ]
    memory = list(memory_rows(measured, contenders))
    if len(memory) > 1:
        parts.append(markdown(memory))
    parts += _told_means(measured, by_cpu)
    for name, results in measured.items():
        for contender, result in results.items():
            if result.error:
                parts.append(f"{TITLES[contender]} failed in {name}: {result.error}")
    return "\n\n".join(parts) + "\n"


def _told_means(measured, by_cpu):
    """Sentences with the geometric means, and with where Headrace is the slower one."""

    def listed(means):
        return "; ".join(f"{title} {value:.2f}" for title, value in means.items())

    means = geometric_means(measured, by_cpu)
    if not means:
        return
    what = "Geometric means of the ratios over the workloads of repeated steps"
    left_out = [name for name in NOTHING if name in measured]
    if left_out:
        titles = ", ".join(f'"{WORKLOADS[name].title}"' for name in left_out)
        some = geometric_means(measured, by_cpu, NOTHING)
        if some:
            yield f"{what}, without {titles}: {listed(some)}."
        yield f"With it: {listed(means)}."
    else:
        yield f"{what}: {listed(means)}."
    slower = [
        f"{WORKLOADS[name].title} ({TITLES[peer]} {ratio:.2f})"
        for name, results in measured.items()
        if WORKLOADS[name].unit == "s"
        for peer, ratio in ratios(results, by_cpu).items()
        if ratio < 0.995
    ]
    yield f"Ratios below 1: {'; '.join(slower) or 'none'}."


def picture(measured, by_cpu):
    """An SVG: for each workload how many times Headrace's time each peer takes, on a logarithmic axis."""
    lines = [
        (WORKLOADS[name].title, ratios(results, by_cpu))
        for name, results in measured.items()
        if WORKLOADS[name].unit == "s" and ratios(results, by_cpu)
    ]
    left, right, height, top = 470, 470, 20, 66
    low, high = -1.0, 1.5  # powers of ten; what lies outside is drawn at the edge, with its number

    def x(ratio):
        return left + (min(max(math.log10(ratio), low), high) - low) / (high - low) * right

    bottom = top + height * len(lines)
    parts = []

    def text(at, y, content, attributes=""):
        parts.append(f'<text x="{at:.1f}" y="{y:.0f}" {attributes}>{escape(content)}</text>')

    def mark(at, y, contender, told=""):
        shape = _shape(contender, at, y)
        parts.append(f'{shape} fill="{COLOURS[contender]}"><title>{escape(told)}</title></path>')

    for i in range(0, len(lines), 2):  # bands lead the eye from a title to its marks
        y = top + height * i
        parts.append(
            f'<rect x="0" y="{y}" width="{left + right + 40}" height="{height}" fill="#f4f4f4"/>'
        )
    heading = "time relative to Headrace (right of 1: Headrace is faster)"
    text(left, 16, heading, 'font-weight="bold"')
    for i, contender in enumerate(COLOURS):
        mark(left + 8 + 110 * i, 30, contender)
        text(left + 18 + 110 * i, 34, TITLES[contender])
    for ratio in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20):
        stroke = "#333" if ratio == 1 else "#ddd"
        place = f'x1="{x(ratio):.1f}" x2="{x(ratio):.1f}" y1="{top - 6}" y2="{bottom}"'
        parts.append(f'<line {place} stroke="{stroke}"/>')
        for y in (top - 10, bottom + 16):
            text(x(ratio), y, f"{ratio:g}", 'text-anchor="middle" fill="#555"')
    for i, (title, found) in enumerate(lines):
        y = top + height * i + height / 2
        shown = title if len(title) < 72 else title[:70] + "…"
        text(left - 8, y + 4, shown, 'text-anchor="end"')
        for contender, ratio in sorted(found.items(), key=lambda item: item[1]):
            mark(x(ratio), y, contender, f"{TITLES[contender]}: {ratio:.2f}")
            if math.log10(ratio) > high:
                text(x(ratio) + 8, y + 4, f"{ratio:.0f}", f'fill="{COLOURS[contender]}"')
    size = f'width="{left + right + 40}" height="{bottom + 30}"'
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    )
    return "\n".join(
        [opening, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""]
    )


def _shape(contender, x, y):
    """The beginning of a path around a point: a circle, a diamond, a square, so that marks that meet are told apart."""
    outline = {
        "tensorflow": f"M{x - 5:.1f} {y:.0f}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0",
        "torch": f"M{x:.1f} {y - 6:.0f}l6 6l-6 6l-6 -6",
        "jax": f"M{x - 4:.1f} {y - 4:.0f}h8v8h-8",
    }[contender]
    return f'<path d="{outline}z" fill-opacity="0.8" stroke="white" stroke-width="0.6"'


def write(measured, contenders, by_cpu, facts, name):
    """Writes NAME.json, NAME.md and NAME.svg to `results/`; returns the path without its ending."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / name
    record = {
        **facts,
        "by_cpu": by_cpu,
        "geometric_means": geometric_means(measured, by_cpu),
        "geometric_means_without_nothing": geometric_means(measured, by_cpu, NOTHING),
        "workloads": {
            name: {
                "title": WORKLOADS[name].title,
                "unit": WORKLOADS[name].unit,
                "ratios": ratios(results, by_cpu),
                "contenders": {
                    contender: {
                        "median": result.value(False),
                        "median_cpu": result.value(True) if result.cpu else None,
                        **_short(asdict(result)),
                    }
                    for contender, result in results.items()
                },
            }
            for name, results in measured.items()
        },
    }
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    path.with_suffix(".md").write_text(text(measured, contenders, by_cpu, facts))
    path.with_suffix(".svg").write_text(picture(measured, by_cpu))
    return path


def _short(result):
    """A result whose long lists of samples have become nine quantiles."""
    for key in ("wall", "cpu"):
        samples = sorted(result[key])
        if len(samples) > 9:
            samples = [samples[round(i * (len(samples) - 1) / 8)] for i in range(9)]
        result[key] = [float(f"{s:.5g}") for s in samples]
    return result


def now():
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC"

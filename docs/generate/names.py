"""Writes docs/names.md: what Headrace has of TensorFlow 1.15's public names.

The table of TensorFlow's names lies beside the checkout (../shared/reference); without it the page stays as it is.
"""

import collections
import json
from pathlib import Path

import headrace as tf

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT.parent / "shared" / "reference" / "api_v1.15.json"
PAGE = ROOT / "docs" / "names.md"
# Two of them are TensorFlow once more, under another name.
LEFT_OUT = ("tf.compat.v1", "tf.compat.v2")
HEAD = """\
# TensorFlow's public names

Written by `make docs`. Functions, classes and values of TensorFlow 1.15 that Headrace has, by namespace; methods
are not counted. What is missing stands below the table. Arguments are TensorFlow's:
`tests/test_public_names.py` compares them.

| namespace | has | of |
|---|---:|---:|
"""


def main():
    """Writes the page."""
    if not REFERENCE.exists():
        print(f"{REFERENCE} is not here; {PAGE.name} stays as it is")
        return
    api = json.loads(REFERENCE.read_text())
    counts, missing = collections.Counter(), collections.defaultdict(list)
    for path, entry in api.items():
        owner = path.rpartition(".")[0]
        if (
            entry["kind"] == "module"
            or path.startswith(LEFT_OUT)
            or api.get(owner, {}).get("kind") != "module"
        ):
            continue
        if path.rpartition(".")[2].startswith("_"):
            continue
        counts[owner] += 1
        if not has(path):
            missing[owner].append(path.rpartition(".")[2])
    rows = [f"| `{n}` | {counts[n] - len(missing[n])} | {counts[n]} |" for n in sorted(counts)]
    total, absent = sum(counts.values()), sum(map(len, missing.values()))
    rows.append(f"| **all** | **{total - absent}** | **{total}** |")
    lists = [f"- `{n}`: {', '.join(sorted(missing[n]))}" for n in sorted(missing) if missing[n]]
    PAGE.write_text(HEAD + "\n".join(rows) + "\n\n## Missing\n\n" + "\n".join(lists) + "\n")
    print(f"{PAGE.relative_to(ROOT)}: {total - absent} of {total} names")


def has(path):
    """Whether the public name `path` is there."""
    value = tf
    for part in path.split(".")[1:]:
        value = getattr(value, part, None)
        if value is None:
            return False
    return True


if __name__ == "__main__":
    main()

"""Where the public names live that TensorFlow's private modules held.

Programs imported `tensorflow.python.framework.ops` and its like although they were private; nearly
all of what they took from there is public too. The table is `private_names.txt`, beside this file.
"""

from pathlib import Path

# Modules under this prefix hold generated ops too; their public names are spread over these.
OPS_PREFIX = "python.ops."
OPS_NAMESPACES = (
    *("", "nn", "math", "linalg", "image", "io", "strings", "bitwise", "sparse", "random"),
    *("quantization", "audio", "signal", "train", "queue", "debugging"),
)


def _read_table() -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    modules, renamed = {}, {}
    text = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, sign, rest = line.split(maxsplit=2)
        if sign == "=":
            renamed[name] = rest
        else:
            modules[name] = tuple("" if n == "." else n for n in rest.split() if n != "-")
    return modules, renamed


# MODULES: private module -> public namespaces, "" being the top level. RENAMED: private name -> public.
MODULES, RENAMED = _read_table()

# `tensorflow.python`, `tensorflow.python.ops`, ...: what stands above a module of the table.
PACKAGES = frozenset(
    name.rsplit(".", depth)[0]
    for name in (*MODULES, "core.framework.x", "core.protobuf.x", "core.example.x", "core.util.x")
    for depth in range(1, name.count(".") + 1)
)

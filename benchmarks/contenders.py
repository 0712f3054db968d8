"""Who takes part, and the virtual environments in which they live."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = Path(__file__).parent / "environments"

CONTENDERS = ("headrace", "tensorflow", "torch", "jax")
TITLES = {"headrace": "Headrace", "tensorflow": "TensorFlow", "torch": "PyTorch", "jax": "JAX"}

# What pip installs; the first that works is taken.
PACKAGES = {
    "tensorflow": [["tensorflow-cpu==2.21.*"]],
    # PyTorch's own index has builds without CUDA. "2.13.0" is met by "2.13.0+cpu" too, where pip finds that.
    "torch": [
        ["torch", "numpy", "--index-url", "https://download.pytorch.org/whl/cpu", "--retries", "1"],
        ["torch==2.13.0", "numpy"],
    ],
    "jax": [["jax>=0.10,<0.12", "numpy"]],
}


def interpreter(contender, given):
    """The Python of a contender: the one given, else this one for Headrace, else one in an environment that is made here."""
    if contender in given:
        return given[contender]
    if contender == "headrace":
        return sys.executable
    folder = ENVIRONMENTS / contender
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        print(f"making {folder.relative_to(ROOT)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for packages in PACKAGES[contender]:
            command = [str(python), "-m", "pip", "install", "--quiet", *packages]
            if subprocess.run(command).returncode == 0:
                break
        else:
            raise SystemExit(
                f"pip found no {TITLES[contender]}; name a Python that has it: --python {contender}=PATH"
            )
        done.touch()
    return str(python)


def environment(contender, core, cache):
    """The environment variables of a contender's process; `cache`: the folder of compiled programs, or None."""
    threads = 1 if core is not None else len(os.sched_getaffinity(0))
    variables = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(threads),
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    variables.pop("JAX_COMPILATION_CACHE_DIR", None)
    # Others were compiled to bytecode when they were installed; this checkout must be allowed to keep its own.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    if cache is not None:
        variables |= {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    return variables

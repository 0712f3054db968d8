"""`headrace run`: a script sees what it would see under python itself, and the alias."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def headrace(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "headrace", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "HOME": str(cwd),
        },
    )


@pytest.fixture
def script(tmp_path):
    def write(text, name="train.py"):
        folder = tmp_path / "scripts"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        return folder / name

    return write


def test_a_script_sees_what_python_shows_it(script, tmp_path):
    script("X = 7\n", "beside.py")
    path = script(
        "import sys, os, pickle, atexit, beside\n"
        "import tensorflow as tf\n"
        "class Kept: pass\n"
        "atexit.register(lambda: print('at exit', pickle.dumps(Kept()) != b'', __name__))\n"
        "print(__name__, sys.argv[1:], os.path.basename(__file__), beside.X, tf.__version__)\n"
        "print(sys.argv[0] == __import__('os').fspath(sys.argv[0]), sys.path[0] == os.path.dirname(__file__))\n"
        "print(sys.modules['__main__'].Kept is Kept)\n"
    )
    for command in (["run", path], [path]):
        done = headrace(*command, "--flag=1", "b", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            "__main__ ['--flag=1', 'b'] train.py 7 1.15.5",
            "True True",
            "True",
            "at exit True __main__",
        ]


def test_a_traceback_shows_the_script_alone(script, tmp_path):
    path = script("def build():\n    raise ValueError('in build')\n\nbuild()\n")
    done = headrace("run", path, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "Traceback (most recent call last):"
    assert f'File "{path}", line 4, in <module>' in done.stderr.splitlines()[1]
    assert "headrace/cli" not in done.stderr and "runpy" not in done.stderr
    assert done.stderr.splitlines()[-1] == "ValueError: in build"


def test_a_syntax_error_is_shown_as_python_shows_it(script, tmp_path):
    path = script("a = 1\nprint 'python 2'\n")
    done = headrace("run", path, cwd=tmp_path)
    assert done.returncode == 1
    assert "line 2" in done.stderr and "headrace/cli" not in done.stderr


@pytest.mark.parametrize(("exit_with", "status"), [("0", 0), ("3", 3), ("'no data'", 1)])
def test_the_exit_status_is_the_scripts(script, tmp_path, exit_with, status):
    path = script(f"import sys; sys.exit({exit_with})")
    assert headrace("run", path, cwd=tmp_path).returncode == status


def test_absl_flags_are_the_scripts(script, tmp_path):
    path = script(
        "from absl import app, flags\n"
        "flags.DEFINE_integer('steps', 1, 'how many')\n"
        "def main(argv): print(flags.FLAGS.steps, argv[1:])\n"
        "if __name__ == '__main__': app.run(main)\n"
    )
    done = headrace("run", path, "--steps=5", "rest", cwd=tmp_path)
    assert done.stdout == "5 ['rest']\n", done.stderr


def test_a_module_runs(script, tmp_path):
    path = script("import sys, tensorflow\nprint(__name__, sys.argv[1:])\n", "job.py")
    done = headrace("run", "-m", "job", "x", cwd=path.parent)
    assert done.stdout == "__main__ ['x']\n", done.stderr


def test_the_command_line_says_what_is_wrong(tmp_path):
    done = headrace("run", "absent.py", cwd=tmp_path)
    assert done.returncode == 2 and "no file 'absent.py'" in done.stderr
    done = headrace("fly", cwd=tmp_path)
    assert done.returncode == 2 and "no command or script 'fly'" in done.stderr
    assert headrace("--help", cwd=tmp_path).stdout.startswith("usage: headrace run")


def test_version_and_environment(tmp_path):
    assert headrace("--version", cwd=tmp_path).stdout.startswith("headrace 0.")
    done = headrace("env", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "device cpu:0" in done.stdout and "jaxlib" in done.stdout

"""Steps of the small network that tutorials train, 2-3-1 units: a short way to `python -m benchmarks three_layer`.

python benchmarks/three_layer.py                     Headrace alone
python benchmarks/three_layer.py OTHER_PYTHON        beside the TensorFlow, 2 or 1, of that Python
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.run import main

if __name__ == "__main__":
    beside = [f"--python=tensorflow={python}" for python in sys.argv[1:2]]
    contenders = "headrace,tensorflow" if beside else "headrace"
    main(["three_layer", "--contenders", contenders, *beside])

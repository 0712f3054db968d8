"""Steps of a character language model, and 30 distinct lengths: a short way to `python -m benchmarks char_rnn lengths`.

python benchmarks/char_rnn.py                     Headrace alone
python benchmarks/char_rnn.py OTHER_PYTHON        beside the TensorFlow, 2 or 1, of that Python
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.run import main

if __name__ == "__main__":
    beside = [f"--python=tensorflow={python}" for python in sys.argv[1:2]]
    contenders = "headrace,tensorflow" if beside else "headrace"
    main(["char_rnn", "lengths", "--contenders", contenders, *beside])

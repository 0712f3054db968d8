"""`read_data_sets`: the handwritten digits of MNIST, as the TensorFlow tutorials read them."""

import collections
import gzip
import os
import urllib.request

import numpy as np

import headrace as tf

Datasets = collections.namedtuple("Datasets", ["train", "validation", "test"])

SOURCE_URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


class DataSet:
    """Images and labels, handed out in batches.

    images: [N, rows, columns, 1] uint8.  labels: [N] or [N, classes].
    dtype: float32 scales the pixels to [0, 1], uint8 leaves them.  reshape: images become [N, rows*columns].
    """

    def __init__(
        self,
        images,
        labels,
        fake_data=False,
        one_hot=False,
        dtype=tf.float32,
        reshape=True,
        seed=None,
    ):
        if fake_data:
            images = np.zeros([10000, 28, 28, 1], np.uint8)
            labels = np.zeros([10000, 10] if one_hot else [10000], np.uint8)
        if len(images) != len(labels):
            raise ValueError(f"images.shape: {images.shape} labels.shape: {labels.shape}")
        dtype = tf.as_dtype(dtype).base_dtype
        if dtype not in (tf.uint8, tf.float32):
            raise TypeError(f"Invalid image dtype {dtype!r}, expected uint8 or float32")
        if reshape:
            images = images.reshape(len(images), -1)
        if dtype == tf.float32:
            images = images.astype(np.float32) / np.float32(255.0)
        self._images, self._labels = images, labels
        self._order, self._position, self._epochs = np.arange(len(images)), 0, 0
        # The stream that TensorFlow draws from: the op seed, else the graph's, else the clock.
        self._random = np.random.RandomState(tf.get_seed(None)[0] if seed is None else seed)
        self._started = False

    @property
    def images(self):
        return self._images

    @property
    def labels(self):
        return self._labels

    @property
    def num_examples(self):
        return len(self._images)

    @property
    def epochs_completed(self):
        return self._epochs

    def next_batch(self, batch_size, fake_data=False, shuffle=True):
        """Returns the next `batch_size` (images, labels); a batch may span two epochs."""
        if not self._started and shuffle:
            self._random.shuffle(self._order)
        self._started = True
        taken = [self._order[self._position : self._position + batch_size]]
        self._position += batch_size
        while self._position > self.num_examples or not self.num_examples:
            if not self.num_examples:
                raise ValueError("next_batch: the data set is empty")
            self._epochs += 1
            self._position -= self.num_examples
            if shuffle:
                self._order = self._order[self._random.permutation(self.num_examples)]
            taken.append(self._order[: self._position])
        chosen = np.concatenate(taken)
        return self._images[chosen], self._labels[chosen]


def read_data_sets(
    train_dir,
    fake_data=False,
    one_hot=False,
    dtype=tf.float32,
    reshape=True,
    validation_size=5000,
    seed=None,
    source_url=SOURCE_URL,
):
    """Reads MNIST from `train_dir`, fetching from `source_url` those of its four files that are not there.

    Returns Datasets(train, validation, test).  Raises ValueError: validation_size is larger than the
    training set.  OSError: a file is neither there nor to be had.
    """
    options = dict(one_hot=one_hot, dtype=dtype, reshape=reshape, seed=seed)
    if fake_data:
        empty = DataSet(np.zeros(0), np.zeros(0), fake_data=True, **options)
        return Datasets(train=empty, validation=empty, test=empty)
    paths = [_fetch(name, train_dir, source_url or SOURCE_URL) for name in _FILES]
    train_images, test_images = extract_images(paths[0]), extract_images(paths[2])
    train_labels, test_labels = (extract_labels(paths[i], one_hot=one_hot) for i in (1, 3))
    if not 0 <= validation_size <= len(train_images):
        raise ValueError(
            f"Validation size should be between 0 and {len(train_images)}. Received: {validation_size}."
        )
    return Datasets(
        train=DataSet(train_images[validation_size:], train_labels[validation_size:], **options),
        validation=DataSet(
            train_images[:validation_size], train_labels[:validation_size], **options
        ),
        test=DataSet(test_images, test_labels, **options),
    )


def load_mnist(train_dir="MNIST-data"):
    return read_data_sets(train_dir)


def extract_images(f):
    """Reads an idx3 file, gzip or not. Returns [N, rows, columns, 1] uint8. Raises ValueError."""
    return _read_idx(f, magic=2051)[..., np.newaxis]


def extract_labels(f, one_hot=False, num_classes=10):
    """Reads an idx1 file, gzip or not. Returns [N] uint8, or [N, num_classes]. Raises ValueError."""
    labels = _read_idx(f, magic=2049)
    return np.eye(num_classes)[labels] if one_hot else labels


def _read_idx(file, magic):
    name = getattr(file, "name", file)
    if hasattr(file, "read"):
        content = file.read()
    else:
        with open(file, "rb") as opened:
            content = opened.read()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        raise ValueError(
            f"Invalid magic number {found} in MNIST file: {name}; {magic} was expected"
        )
    rank = magic % 256
    shape = np.frombuffer(content, ">u4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _fetch(name, folder, source_url):
    path = os.path.join(folder, name)
    for present in (path, path.removesuffix(".gz")):
        if os.path.exists(present):
            return present
    os.makedirs(folder, exist_ok=True)
    part = f"{path}.part"
    try:
        urllib.request.urlretrieve(source_url + name, part)
    except OSError as error:
        raise OSError(
            f"MNIST: {path} is not there, and {source_url}{name} cannot be had: {error}"
        ) from error
    os.replace(part, path)
    return path

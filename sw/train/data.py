"""Images to train on and to test with, and the order in which an epoch takes them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sw.golden.float32 import narrow
from sw.runtime.errors import UserError

TEST_IMAGES = 360       # of the 1,797 digits; 1,437 are left to train on
SPLIT_SEED = 0          # not the seed of a run: every run is tested with the same images


@dataclass(frozen=True, kw_only=True)
class Data:
    """Images (count, height, width, channels), float32 with the values of bf16 numbers, and labels (count,), whole numbers below `classes`.

    Raises UserError for a number that is not finite or that bf16 does not have, and for labels out of range.
    """

    name: str
    classes: int
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    def __post_init__(self):
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.ndim != 4 or images.dtype != np.float32 or not images.size or labels.shape != images.shape[:1]:
                raise UserError(f"data = {self.name!r}: {part} images are {images.dtype} {images.shape} with labels {labels.shape}, "
                                "allowed: float32 (count, height, width, channels) with a label each")
            axes = (1, 2, 3)
            for wrong, what in ((~np.isfinite(images).all(axis=axes), "holds NaN or infinity"),
                                ((narrow(images) != images).any(axis=axes), "holds numbers that bf16 does not have")):
                if wrong.any():
                    raise UserError(f"data = {self.name!r}: {part} image {wrong.argmax()} {what}")
            outside = (labels < 0) | (labels >= self.classes)
            if outside.any():
                raise UserError(f"data = {self.name!r}: the label of {part} image {outside.argmax()} is {labels[outside][0]}, "
                                f"outside 0..{self.classes - 1}")

    @property
    def image(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels


def digits() -> Data:
    """scikit-learn's handwritten digits, 8 x 8: 0..16 becomes (x - 8) / 8, which bf16 has exactly. Every class has its share of both
    parts."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = ((np.asarray(pixels) - 8) / 8).astype(np.float32).reshape(-1, 8, 8, 1)
    x_train, x_test, y_train, y_test = map(np.asarray, train_test_split(
        images, labels, test_size=TEST_IMAGES, random_state=SPLIT_SEED, stratify=labels))
    return Data(name="digits", classes=10, train_images=x_train, train_labels=y_train, test_images=x_test, test_labels=y_test)


DATA: dict[str, Callable[[], Data]] = {"digits": digits}


def load(name: str) -> Data:
    """The data of that name. Raises UserError."""
    if name not in DATA:
        raise UserError(f"data = {name!r} is none of {', '.join(DATA)}")
    return DATA[name]()


def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `count` images in an epoch (from 0). It depends on nothing else: a resumed run takes them as one that went on."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def batches(data: Data, *, batch: int, seed: int, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and labels of every step of an epoch. All are of one size: what is left over at the end waits for another epoch's order."""
    places = order(len(data.train_images), seed, epoch)
    for start in range(0, len(places) - batch + 1, batch):
        part = places[start:start + batch]
        yield data.train_images[part], data.train_labels[part]

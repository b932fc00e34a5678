"""The keys of a run's images and of what is done to them in training; see config_keys.py.

    DataConfig(name='digits').num_validation       # 1000, the default
    AugmentConfig(cutmix=0.5)
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from war_jax.config_rules import at_least, at_most, key
from war_jax.config_types import DATA_NAME, AboveZero, Count, Fraction


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The images, and what is done to them in training."""

    name: Annotated[str, DATA_NAME] = key(
        'cifar10',
        'digits (embedded), a TFDS set on disk, or an .npz with arrays train_images, train_labels, '
        'test_images, test_labels.',
    )
    data_dir: str = key(
        '',
        'The TFDS data_dir that holds the set. Empty: environment variable TFDS_DATA_DIR, or else '
        "TFDS's own default.",
    )
    num_validation: Count = key(
        1000,
        'Examples held out of train, spread over the classes, to select the best checkpoint on.',
    )
    max_train_examples: Count = key(
        0,
        'Train on this many of the examples left (a fixed subset, spread over classes). 0: all.',
    )
    pad: Count = key(4, 'Random crop after padding by this many zeros on each side. 0: no crop.')
    flip: bool = key(True, 'Random horizontal flip.')
    extra_path: str = key(
        '',
        'Further training images and (pseudo-)labels: an .npz with images, labels or image, label '
        '(of Wang et al. 2023, Gowal et al. 2021 or made of RST\'s 500K), or a folder of such '
        'shards. Empty: none.',
    )
    extra_fraction: Fraction = key(
        0.0,
        'Which fraction of every batch comes from there (RST: 0.5), rounded to whole images.',
    )
    placement: Literal['replicated', 'host_sharded', 'host'] = key(
        'replicated',
        'Of the images; the numbers are the same. replicated: every device holds all of them. '
        'host_sharded: the devices of each host hold its share, and send each other the rows of a '
        'batch. host: they stay in the memory of the host, extra ones that are not compressed on '
        'its disk, and each host reads the rows of its devices some batches ahead.',
        absent='replicated',
    )

    @classmethod
    def whole(cls, name: str, data_dir: str) -> Self:
        """A data set as it is: no image held out or left out, none augmented, none added."""
        return cls(name=name, data_dir=data_dir, num_validation=0, pad=0, flip=False)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What is done to training images beyond crop and flip (data.pad, data.flip), in this order."""

    randaugment: Count = key(
        0,
        'Random operations on each image, one after the other (RandAugment, Cubuk et al. 2020: '
        'often 2). 0: none.',
        absent=0,
    )
    magnitude: Annotated[float, at_least(0), at_most(30)] = key(
        9.0, "Their strength, 0 to 30 as in torchvision's RandAugment.", absent=9.0
    )
    cutout: Count = key(
        0,
        'Side in pixels of a black square at a random place of each image (DeVries & Taylor 2017: '
        '16 on CIFAR-10, 8 on CIFAR-100). 0: none.',
        absent=0,
    )
    cutmix: Annotated[float, at_least(0), at_most(1)] = key(
        0.0,
        'Probability with which an image gets a box of another one of its batch, and of its label '
        'a share by area (CutMix, Yun et al. 2019: 0.5 on CIFAR). 0: none.',
        absent=0.0,
    )
    cutmix_alpha: AboveZero = key(
        1.0,
        "The box has 1 - lambda of the image's area, lambda ~ Beta(cutmix_alpha, cutmix_alpha). "
        '1: uniform.',
        absent=1.0,
    )

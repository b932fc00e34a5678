"""What networks of PyTorch call their layers, beside what ours are called.

    TRADES.of_block(2, 0, 'norm1')                        # 'block2.layer.0.bn1'
    TRADES.path('block2.layer.0.bn1.weight')              # ('params', 'stage2', 'block0', 'norm1',
    TRADES.name(path)                                     #  'scale'), and back again

A naming says nothing of what the layers compute: that is `war_jax.models.residual.Form`.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

K = TypeVar('K')
V = TypeVar('V')
Path = tuple[str, ...]  # of a linen variable, its collection first

OF_NORM = {
    'weight': ('params', 'scale'),
    'bias': ('params', 'bias'),
    'running_mean': ('batch_stats', 'mean'),
    'running_var': ('batch_stats', 'var'),
}
OF_LAYER = {'weight': ('params', 'kernel'), 'bias': ('params', 'bias')}


class Naming(NamedTuple):
    """kind: of network, for errors. outer, inner: our layers' names -> theirs, outside of blocks
    and in them. block: how those of a block begin, with its stage, counted from `first`, and its
    number in it."""

    kind: str
    outer: Mapping[str, str]
    block: str
    first: int
    inner: Mapping[str, str]

    def of_block(self, stage: int, block: int, layer: str) -> str:
        """Stages count from 1, blocks from 0."""
        start = self.block.format(stage=stage - 1 + self.first, block=block)
        return f'{start}.{self.inner.get(layer, layer)}'

    def name(self, path: Path) -> str:
        """Of an array of ours. Raises KeyError for one that is not of such a network."""
        collection, *where, module, leaf = ('', *path) if len(path) < 3 else path
        theirs = _inverse(OF_NORM if 'norm' in module else OF_LAYER)[collection, leaf]
        if not where:
            return f'{self.outer[module]}.{theirs}'
        if len(where) != 2 or module not in self.inner:
            raise KeyError(path)
        stage, block = (int(re.sub(r'\D', '', part)) for part in where)
        return f'{self.of_block(stage, block, module)}.{theirs}'

    def place(self, name: str) -> tuple[int, int] | None:
        """Stage and block of an array's name; None outside of blocks."""
        number = {'stage': r'(\d+)', 'block': r'(\d+)'}
        found = re.match(self.block.replace('.', r'\.').format(**number) + r'\.', name)
        return found and (int(found[1]) + 1 - self.first, int(found[2]))

    def path(self, name: str) -> Path:
        """Of a known array. Raises KeyError for another."""
        layer, _, leaf = name.rpartition('.')
        place = self.place(name)
        if place is None:
            module = _inverse(self.outer)[layer]
            where: Path = (module,)
        else:
            start = self.of_block(*place, '')
            module = _inverse(self.inner)[layer.removeprefix(start)]
            where = (f'stage{place[0]}', f'block{place[1]}', module)
        collection, ours = (OF_NORM if 'norm' in module else OF_LAYER)[leaf]
        return (collection, *where, ours)


def _inverse(names: Mapping[K, V]) -> dict[V, K]:
    return {theirs: ours for ours, theirs in names.items()}


_PREACTIVATED = {'norm1': 'bn1', 'conv1': 'conv1', 'norm2': 'bn2', 'conv2': 'conv2'}
_BEHIND = {**_PREACTIVATED, 'conv3': 'conv3', 'norm3': 'bn3'}
_WIDE = {**_PREACTIVATED, 'shortcut': 'convShortcut'}

TRADES = Naming(
    'WideResNet',
    {'stem': 'conv1', 'norm': 'bn1', 'head': 'fc'},
    'block{stage}.layer.{block}', 1, _WIDE,
)  # fmt: skip
DEEPMIND = Naming(
    'WideResNet',
    {'stem': 'init_conv', 'norm': 'batchnorm', 'head': 'logits'},
    'layer.{stage}.block.{block}', 0,
    {
        'norm1': 'batchnorm_0', 'conv1': 'conv_0', 'norm2': 'batchnorm_1', 'conv2': 'conv_1',
        'shortcut': 'shortcut',
    },
)  # fmt: skip
DEEPMIND_PREACT = Naming(
    'PreActResNet',
    {'stem': 'conv_2d', 'norm': 'batchnorm', 'head': 'logits'},
    'layer_{stage}.{block}', 0,
    {**DEEPMIND.inner, 'conv1': 'conv_2d_1', 'conv2': 'conv_2d_2'},
)  # fmt: skip
# Huang et al. 2021, RobustWideResNet, and Huang et al. 2022, RobustResNet.
ROBUST_WIDE = TRADES._replace(
    outer={**TRADES.outer, 'stem': 'stem_conv'}, block='blocks.{stage}.layer.{block}', first=0
)
ROBUST_RESNET = ROBUST_WIDE._replace(
    outer={**ROBUST_WIDE.outer, 'norm': 'norm1'}, inner={**_PREACTIVATED, 'shortcut': 'shortcut.0'}
)
PREACT = Naming(
    'PreActResNet',
    {'stem': 'conv1', 'norm': 'bn', 'head': 'linear'},
    'layer{stage}.{block}', 1, ROBUST_RESNET.inner,
)  # fmt: skip
RESNET = Naming(
    'ResNet',
    {'stem': 'conv1', 'stem_norm': 'bn1', 'head': 'linear'},
    'layer{stage}.{block}', 1,
    {**_BEHIND, 'shortcut': 'shortcut.0', 'shortcut_norm': 'shortcut.1'},
)  # fmt: skip
TORCHVISION = RESNET._replace(
    outer={**RESNET.outer, 'head': 'fc'},
    inner={**_BEHIND, 'shortcut': 'downsample.0', 'shortcut_norm': 'downsample.1'},
)

"""Families of residual networks: the sizes that their names stand for, and names for other sizes.

    FAMILIES['wide_resnet'].depths(34)                   # (5, 5, 5) blocks in three stages
    FAMILIES['wide_resnet'].channels(10, (1, 1, 0.5))    # (160, 320, 320)
    network_name({'depth': 34, 'widen_factor': 10})      # 'WRN-34-10'

A depth counts convolutions and the dense layer: two or three convolutions in a block, the first
one and, in WideResNets, two more by convention (Zagoruyko & Komodakis 2016; He et al. 2016).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

_NONE: Mapping[int, tuple[int, ...]] = MappingProxyType({})


class Family(NamedTuple):
    """widths: channels of the stages for a widen factor of 1. beside: what a depth counts beside
    the `per_block` convolutions of each block. usual: blocks of the stages by depth; empty where
    all stages have as many."""

    name: str
    widths: tuple[int, ...]
    beside: int = 2
    per_block: int = 2
    usual: Mapping[int, tuple[int, ...]] = _NONE

    def depths(self, depth: int) -> tuple[int, ...] | None:
        """Blocks of each stage; None for a depth that says nothing of them."""
        if self.usual:
            return self.usual.get(depth)
        blocks, rest = divmod(depth - self.beside, self.per_block * len(self.widths))
        return None if rest or blocks < 1 else (blocks,) * len(self.widths)

    def depth(self, depths: Sequence[int]) -> int:
        return self.per_block * sum(depths) + self.beside

    def channels(self, widen_factor: float, stage_widths: Sequence[float] = ()) -> tuple[int, ...]:
        """Of each stage, at least one, so that a widen factor below 1 works."""
        factors = stage_widths or (1,) * len(self.widths)
        return tuple(
            max(1, round(base * widen_factor * factor))
            for base, factor in zip(self.widths, factors, strict=True)
        )


_FOUR = (64, 128, 256, 512)
_OF_TWO = MappingProxyType({10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)})
_OF_THREE = MappingProxyType({50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)})
FAMILIES = {
    'wide_resnet': Family('WRN', (16, 32, 64), beside=4),
    'preact_resnet': Family('PreActResNet', _FOUR, usual=_OF_TWO),
    # In files only (war_jax.models.variants): activations behind the sums.
    'resnet': Family('ResNet', _FOUR, usual=_OF_TWO),
    'bottleneck_resnet': Family('ResNet', _FOUR, per_block=3, usual=_OF_THREE),
}


def network_name(model: Mapping[str, Any], width: float | str | None = None) -> str:
    """'WRN-34-10', 'PreActResNet-18', and in brackets what such a network has not usually.

    model: the keys of a run's config.model; what an old config.json has not is as it was then.
    width: instead of its widen factor; a text stands for several, as 'k'.
    """
    family = FAMILIES[model.get('name', 'wide_resnet')]
    factor = model['widen_factor'] if width is None else width
    shown = factor if isinstance(factor, str) else f'{factor:g}'
    # A PreActResNet-18 is one: its name has a factor only where it is another.
    parts = [family.name, str(model['depth'])]
    parts += [] if shown == '1' and family.usual else [shown]
    depths, widths = model.get('stage_depths') or (), model.get('stage_widths') or ()
    normalization = model.get('normalization', 'none')
    activation = model.get('activation', 'relu')
    unusual = [
        '' if activation == 'relu' else activation,
        '+'.join(map(str, depths)) + ' blocks' if depths else '',
        f'stage widths × {", ".join(f"{factor:g}" for factor in widths)}' if widths else '',
        '' if normalization == 'none' else f'images normalised: {normalization}',
    ]
    said = '; '.join(filter(None, unusual))
    return '-'.join(parts) + (f' ({said})' if said else '')

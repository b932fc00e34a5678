"""The keys of the network, and the rules that tie several of them together.

ModelConfig(name='preact_resnet', depth=18, widen_factor=1, stem_channels=64,
            strides=(1, 2, 2, 2))
check_model(config.model)                            # ConfigError: one line, what is wrong
constants('0.5:0.25')                                # ((0.5,), (0.25,)): mean and deviation
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from war_jax.config_rules import Rule, key, refusal
from war_jax.config_types import DEPTH, AboveZero, Positive, Width
from war_jax.families import FAMILIES

Numbers = tuple[float, ...]
# Mean and deviation of the channels in the training set, as in DeepMind's code.
CONSTANTS: dict[str, tuple[Numbers, Numbers]] = {
    'none': ((0.0,), (1.0,)),
    'cifar10': ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    'cifar100': ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def constants(text: str) -> tuple[Numbers, Numbers]:
    """Mean and deviation of 'cifar10', or of 'MEAN:DEVIATION', each one number or one for every
    channel with commas between. Raises ValueError for another text."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    mean, std = (tuple(map(float, part.split(','))) for part in text.split(':'))
    one, many = sorted((len(mean), len(std)))
    if not (all(map(math.isfinite, (*mean, *std))) and min(std) > 0 and one in (1, many)):
        raise ValueError(text)
    return mean, std


def _is_known(text: str) -> bool:
    try:
        constants(text)
    except ValueError:
        return False
    return True


NORMALIZATION = Rule(
    f'must be one of {", ".join(CONSTANTS)}, or MEAN:DEVIATION, numbers with commas between for '
    'several channels',
    _is_known,
    lambda text: "'0.4914,0.4822,0.4465:0.2471,0.2435,0.2616'" if ':' in text else "'cifar10'",
)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A residual network with pre-activations: WideResNet-depth-widen_factor, or a PreActResNet."""

    name: Literal['wide_resnet', 'preact_resnet'] = key(
        'wide_resnet',
        'wide_resnet: three stages of 16, 32, 64 channels, times widen_factor. preact_resnet: four '
        'of 64, 128, 256, 512, times that; PreActResNet-18 is its depth 18 with widen_factor 1, '
        'stem_channels 64 and strides (1, 2, 2, 2), as in configs/preact_resnet.py.',
        absent='wide_resnet',
    )
    depth: int = key(
        34,
        'wide_resnet: stages of (depth - 4) / 6 blocks of two convolutions. preact_resnet: 10, 18 '
        'or 34.',
    )
    widen_factor: Width = key(
        10.0, 'How many times as wide the stages are as the name says; may be below 1.'
    )
    stage_depths: tuple[Positive, ...] = key(
        (),
        'Blocks of each stage where they are not as many in all; depth must agree: twice their sum '
        '+ 4 (wide_resnet) or + 2 (preact_resnet). Empty: as depth says.',
        absent=(),
    )
    stage_widths: tuple[AboveZero, ...] = key(
        (),
        'Factors of the width of each stage, times widen_factor: (1, 1, 0.4) shrinks the last one '
        '(Huang et al. 2021, with widen_factor 20). Empty: 1 for all.',
        absent=(),
    )
    stem_channels: Positive = key(16, 'Channels of the first convolution.')
    strides: tuple[Positive, ...] = key(
        (1, 2, 2),
        'Of the stages. XLA is slow on CPU where the last feature map is 2x2: 8x8 images want '
        '(1, 2, 1).',
    )
    activation: Literal['relu', 'swish', 'gelu'] = key(
        'relu',
        'Behind every norm. swish: x * sigmoid(x), also called SiLU; gelu: x * Phi(x), exactly.',
        absent='relu',
    )
    normalization: Annotated[str, NORMALIZATION] = key(
        'none',
        'The network is given (image - mean) / deviation, channel by channel: of cifar10, cifar100 '
        'or as said, MEAN:DEVIATION. It is part of the network: images stay in [0, 1], and '
        'epsilon and step sizes are of these pixels.',
        absent='none',
    )
    param_dtype: Literal['float32', 'float64'] = key(
        'float32', 'Of the weights; float64 to compare with other implementations.'
    )
    compute_dtype: Literal['float32', 'bfloat16', 'float64'] = key(
        'float32', 'Of the convolutions.'
    )
    matmul_precision: Literal['default', 'high', 'highest'] = key(
        'default',
        'Of products and convolutions in the training step, but for the first convolution, whose '
        'is the highest. default: on TPUs the factors of float32 are rounded to bfloat16, on GPUs '
        'they may be to TF32; highest: float32 everywhere, and slower there. CPUs know no '
        'difference, and measuring is always of the highest.',
    )
    remat: bool = key(
        False,
        'Training keeps the inputs of blocks alone for its gradient, and computes the rest anew. '
        'The same numbers for less memory and up to a third more work in the update.',
    )


def check_model(model: ModelConfig) -> None:
    """Raises ConfigError for keys that contradict each other."""
    family = FAMILIES[model.name]
    count = len(family.widths)
    for name in ('strides', 'stage_depths', 'stage_widths'):
        values: tuple[Any, ...] = getattr(model, name)
        if len(values) != count and (values or name == 'strides'):
            rule = f"must have {count} elements with model.name = '{model.name}', one per stage"
            nearest = (values + (values[-1:] or (1,)) * count)[:count]
            raise refusal(f'model.{name}', values, rule, str(nearest))
    if model.stage_depths:
        fits = family.depth(model.stage_depths)
        if model.depth != fits:
            rule = (
                f'must be {family.per_block} * {sum(model.stage_depths)} + {family.beside} with '
                f'model.stage_depths = {model.stage_depths}'
            )
            raise refusal('model.depth', model.depth, rule, str(fits))
    elif family.depths(model.depth) is None:
        if not family.usual:
            raise refusal('model.depth', model.depth, DEPTH.text, DEPTH.nearest(model.depth))
        known = sorted(family.usual)
        rule = f"must be one of {known} with model.name = '{model.name}', or give stage_depths"
        choice = min(known, key=lambda depth: abs(depth - model.depth))
        raise refusal('model.depth', model.depth, rule, str(choice))

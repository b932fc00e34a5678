"""The names and the classes of PyTorch code that a network is exported for.

    layout = LAYOUTS['robustbench']
    target = layout.target(model)                       # of WideResNets, or of PreActResNets
    state = target.state(variables, model.normalise)    # for load_state_dict(strict=True)
    target.differences(model, channels, 32)             # what that class would compute otherwise

Both classes of WideResNets are called so and name their arrays alike: conv1, block1.layer.0.bn1,
..., bn1, fc (`war_jax.models.torch_io`); the second was made from the first.

trades       models/wideresnet.py of github.com/yaodongyu/TRADES (commit 6e8e11b). It makes a second
             first stage, `sub_block1`, which it never calls, but whose arrays it wants in a state
             dict.
robustbench  robustbench/model_zoo/architectures/wide_resnet.py of
             github.com/RobustBench/robustbench (commit 78fcc9e). The same in the same order,
             without `sub_block1` unless it is made with sub_block1=True. PreActResNets are those
             of its resnet.py with bn_before_fc and out_shortcut, as Rice et al. 2020 have them.

None normalises its input, (n, channels, h, w) in [0, 1]; where a network of ours does, `mu` and
`sigma` stand beside its weights, as in RobustBench's classes that normalise. All have ReLU, images
of three channels and of 32x32, the widths of their names and strides 1, 2, 2 (, 2). RobustBench's
DMWideResNet (dm_wide_resnet.py) has other names, Swish if asked, TensorFlow's padding and a
normalisation of its own; no run here trains that network, and no layout here is for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from war_jax.config_rules import ConfigError
from war_jax.families import FAMILIES
from war_jax.models.normalisation import Normalisation
from war_jax.models.residual import ResidualNetwork
from war_jax.models.torch_io import to_torch


@dataclass(frozen=True)
class Target:
    """A class, in `module` of the code of `repository`. stem: channels of its first convolution.

    has_unused_stage: its state dict holds the first stage twice.
    """

    name: str
    module: str
    repository: str
    stem: int = 16
    has_unused_stage: bool = False

    def state(
        self, variables: Mapping[str, Any], normalise: Normalisation
    ) -> dict[str, np.ndarray]:
        """Everything that the class asks for; what it never uses repeats the first stage."""
        state = to_torch(variables)
        if self.has_unused_stage:
            first = {name: a for name, a in state.items() if name.startswith('block1.')}
            state |= {f'sub_{name}': array for name, array in first.items()}
        if not normalise.is_identity:
            numbers = {'mu': normalise.mean, 'sigma': normalise.std}
            state |= {n: np.array(v, np.float32).reshape(1, -1, 1, 1) for n, v in numbers.items()}
        return state

    def differences(self, model: ResidualNetwork, channels: int, size: int | None) -> list[str]:
        """What the published class has otherwise than the network, one phrase each.

        size: height and width of the images; None if they are not known.
        """
        family = FAMILIES[model.family]
        is_wide = not family.usual
        pairs = [
            ('activation', model.activation, 'relu'),
            ('padding', model.padding, 'torch'),
            ('strides', tuple(model.strides), (1, *(2,) * (len(family.widths) - 1))),
            ('channels of the images', channels, 3),
            ('channels of the first convolution', model.stem_channels, self.stem),
            ('height and width of the images', size or 32, 32),
        ]
        found = [f'{what} {theirs}, not {ours}' for what, ours, theirs in pairs if ours != theirs]
        if not model.normalise.is_identity:
            found.append(f'no normalisation of images ({model.normalise})')
        if model.stage_widths:
            found.append(f'channels of the stages by its name alone, not {model.channels}')
        if is_wide and len(set(model.blocks)) > 1:
            found.append(f'as many blocks in each stage, not {model.blocks}')
        if not is_wide and model.widen_factor != 1:
            found.append(f'a widen factor of 1, not {model.widen_factor:g}')
        if is_wide and model.widen_factor != int(model.widen_factor):
            found.append(f'a whole widen factor, not {model.widen_factor:g}')
        return found

    def imported(self) -> str:
        """What is imported from its module."""
        return 'PreActBlock, PreActResNet' if self.name == 'PreActResNet' else self.name

    def constructor(self, model: ResidualNetwork) -> str:
        """The call in Python that makes the class's network of this size."""
        if self.name == 'PreActResNet':
            blocks = list(model.blocks)
            options = f'num_classes={model.num_classes}, bn_before_fc=True, out_shortcut=True'
            return f'PreActResNet(PreActBlock, {blocks}, {options})'
        sizes = f'depth={model.depth}, num_classes={model.num_classes}'
        return f'WideResNet({sizes}, widen_factor={model.widen_factor:g})'


@dataclass(frozen=True)
class Layout:
    """targets: the classes of its code, by family."""

    name: str
    targets: Mapping[str, Target]

    def target(self, model: ResidualNetwork) -> Target:
        """Raises ConfigError where there is none for the network."""
        if model.family not in self.targets:
            kind = FAMILIES[model.family].name
            raise ConfigError(
                f'--layout={self.name}: has no class for a {kind}; nearest: --layout=robustbench'
            )
        return self.targets[model.family]


_ROBUSTBENCH = ('robustbench.model_zoo.architectures', 'github.com/RobustBench/robustbench')
LAYOUTS = {
    'trades': Layout('trades', {
        'wide_resnet': Target(
            'WideResNet', 'models.wideresnet', 'github.com/yaodongyu/TRADES', has_unused_stage=True
        ),
    }),
    'robustbench': Layout('robustbench', {
        'wide_resnet': Target('WideResNet', f'{_ROBUSTBENCH[0]}.wide_resnet', _ROBUSTBENCH[1]),
        'preact_resnet': Target(
            'PreActResNet', f'{_ROBUSTBENCH[0]}.resnet', _ROBUSTBENCH[1], stem=64
        ),
    }),
}  # fmt: skip

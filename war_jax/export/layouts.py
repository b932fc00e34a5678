"""The names and the classes of PyTorch code that a WideResNet is exported for.

    layout = LAYOUTS['robustbench']
    state = layout.state(variables)                     # for load_state_dict(strict=True)
    layout.differences(model, channels, 32)             # what that class would compute otherwise

Both classes are called WideResNet and name their arrays alike: conv1, block1.layer.0.bn1, ...,
bn1, fc (`war_jax.models.torch_io`); the second was made from the first.

trades       models/wideresnet.py of github.com/yaodongyu/TRADES (commit 6e8e11b). It makes a second
             first stage, `sub_block1`, which it never calls, but whose arrays it wants in a state
             dict.
robustbench  robustbench/model_zoo/architectures/wide_resnet.py of
             github.com/RobustBench/robustbench (commit 78fcc9e). The same in the same order,
             without `sub_block1` unless it is made with sub_block1=True.

Neither normalises its input, (n, channels, h, w) in [0, 1]. Both have ReLU, images of three
channels and of 32x32 (the mean is over 8x8 positions), sixteen channels in the first convolution
and strides 1, 2, 2. RobustBench's DMWideResNet (dm_wide_resnet.py) has other names, Swish if asked,
TensorFlow's padding and a normalisation of its own; no run here trains that network, and no layout
here is for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from war_jax.models.torch_io import to_torch
from war_jax.models.wide_resnet import WideResNet


@dataclass(frozen=True)
class Layout:
    """module: from where the class WideResNet is imported, in the code of `repository`."""

    module: str
    repository: str
    has_unused_stage: bool

    def state(self, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Everything that the class asks for; what it never uses repeats the first stage."""
        state = to_torch(variables)
        if self.has_unused_stage:
            first = {name: a for name, a in state.items() if name.startswith('block1.')}
            state |= {f'sub_{name}': array for name, array in first.items()}
        return state

    def differences(self, model: WideResNet, channels: int, size: int | None) -> list[str]:
        """What the published class has otherwise than the network, one phrase each.

        size: height and width of the images; None if they are not known.
        """
        pairs = [
            ('activation', model.activation, 'relu'),
            ('padding', model.padding, 'torch'),
            ('strides', tuple(model.strides), (1, 2, 2)),
            ('channels of the images', channels, 3),
            ('channels of the first convolution', model.stem_channels, 16),
            ('height and width of the images', size or 32, 32),
        ]
        found = [f'{what} {theirs}, not {ours}' for what, ours, theirs in pairs if ours != theirs]
        if model.widen_factor != int(model.widen_factor):
            found.append(f'a whole widen factor, not {model.widen_factor:g}')
        return found

    def constructor(self, model: WideResNet) -> str:
        """The call in Python that makes the class's network of this size."""
        sizes = f'depth={model.depth}, num_classes={model.num_classes}'
        return f'WideResNet({sizes}, widen_factor={model.widen_factor:g})'


LAYOUTS = {
    'trades': Layout('models.wideresnet', 'github.com/yaodongyu/TRADES', True),
    'robustbench': Layout(
        'robustbench.model_zoo.architectures.wide_resnet',
        'github.com/RobustBench/robustbench',
        False,
    ),
}

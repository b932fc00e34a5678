"""A WideResNet in plain NumPy, float64: what the tests of ours compare it with.

    logits = NumpyNetwork(variables, strides=(1, 2, 2))(images)         # running statistics
    network = NumpyNetwork(variables, strides=(1, 2, 2), mask=mask)     # batch moments
    NumpyNetwork(variables, (1, 2, 2, 2), activation=ACTIVATIONS['swish'])(images)
    logits = network(images)
    mean, unbiased_var = network.moments['stage1', 'block0', 'norm2']
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import erf

ACTIVATIONS = {
    'relu': lambda x: np.maximum(x, 0),
    'swish': lambda x: x / (1 + np.exp(-x)),
    'gelu': lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
}


def numpy_conv(x: np.ndarray, kernel: np.ndarray, stride: int = 1) -> np.ndarray:
    size = kernel.shape[0]
    pad = (size - 1) // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return np.einsum('bhwcij,ijco->bhwo', windows[:, ::stride, ::stride], kernel)


class NumpyNetwork:
    """A pre-activation WideResNet from `variables`; batch moments of the examples in `mask`.

    mask None: running statistics. `moments` holds mean and unbiased variance of each norm met.
    """

    def __init__(
        self,
        variables: Any,
        strides: tuple[int, ...],
        mask: np.ndarray | None = None,
        activation: Callable[[np.ndarray], np.ndarray] = ACTIVATIONS['relu'],
    ):
        self.active = activation
        self.params, self.stats = variables['params'], variables['batch_stats']
        self.strides, self.mask = strides, mask
        self.moments: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]] = {}

    def norm(self, x: np.ndarray, *path: str) -> np.ndarray:
        params, running = self.params, self.stats
        for name in path:
            params, running = params[name], running[name]
        mean, var = running['mean'], running['var']
        if self.mask is not None:
            real = x[self.mask].reshape(-1, x.shape[-1])
            mean, var = real.mean(0), real.var(0)
            self.moments[path] = mean, real.var(0, ddof=1)
        return (x - mean) / np.sqrt(var + 1e-5) * params['scale'] + params['bias']

    def __call__(self, x: np.ndarray) -> np.ndarray:
        x = numpy_conv(x, self.params['stem']['kernel'])
        for s, stride in enumerate(self.strides, 1):
            for i in range(len(self.params[f'stage{s}'])):
                x = self.block(x, f'stage{s}', f'block{i}', stride if i == 0 else 1)
        x = self.active(self.norm(x, 'norm')).mean((1, 2))
        return x @ self.params['head']['kernel'] + self.params['head']['bias']

    def block(self, x: np.ndarray, stage: str, name: str, stride: int) -> np.ndarray:
        params = self.params[stage][name]
        active = self.active(self.norm(x, stage, name, 'norm1'))
        y = numpy_conv(active, params['conv1']['kernel'], stride)
        y = self.active(self.norm(y, stage, name, 'norm2'))
        y = numpy_conv(y, params['conv2']['kernel'])
        if 'shortcut' in params:
            return y + active[:, ::stride, ::stride] @ params['shortcut']['kernel'][0, 0]
        return y + x[:, ::stride, ::stride]

"""How do input gradients, Lipschitzness and kernels scale with width? By parametrization and phase.

    python -m ntk.main --config=configs/ntk_width.py --workdir=runs/ntk-width
    python -m ntk.main --config=configs/ntk_width.py:smoke --workdir=runs/ntk-smoke

Argument, comma-separated:
    (nothing)   fully connected GELU networks on digits, five parametrizations, m = 16 ... 512
    relu        the same with ReLU
    wrn         norm-free WideResNets on digits
    smoke       every part, as little as possible of each; alone or beside the others

At the start the exponents of the RMS input gradient are 0, 0, 0, 1/2 and -1/2, in the order of the
parametrizations below. After TRADES, local Lipschitzness grows with width in the one with N(0, 1),
where the outputs grow as much, and in the standard one after as many steps at one learning rate,
where thin networks fit worse: compare it at equal kernel time (trades_timed) and at equal training
risk (trades_matched), and beside the margin. See docs/results.md.
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from war_jax.config_argument import Tree, apply

DEFAULTS: dict[str, Any] = {
    # Which of ntk's programs this configures.
    'experiment': 'width',
    'data': {
        # As in war_jax/config_keys.py: 'digits', 'cifar10', ..., 'npz:PATH'.
        'name': 'digits',
        # The TFDS data_dir that holds the set; '': environment variable TFDS_DATA_DIR.
        'data_dir': '',
        # Images to train on, full batch; balanced over the classes.
        'num_train': 64,
        # Test images, likewise.
        'num_test': 100,
        # Of each of both, images on which empirical kernels are compared.
        'num_kernel': 8,
    },
    'network': {
        # 'fcn': fully connected. 'wrn': WideResNet without BatchNorm.
        'kind': 'fcn',
        # Weight matrices of a fully connected network, the last one included.
        'num_layers': 3,
        # Of a WideResNet, as in war_jax/config_keys.py; so are its strides.
        'depth': 10,
        'strides': (1, 2, 2),
        # 'relu', 'erf', 'gelu', 'relu2' (ReLU squared).
        'activation': 'gelu',
        # Fan-in times the variance of the weights, of all layers but the last.
        'weight_variance': 2.0,
        # Of the last.
        'output_variance': 1.0,
    },
    'grid': {
        # Hidden units of a fully connected network, or widen factors k of a WideResNet.
        'widths': (16.0, 32.0, 64.0, 128.0, 256.0, 512.0),
        # See ntk/networks/parametrization.py.
        'parametrizations': ('standard', 'ntk', 'sqrt_m', 'sqrt_m_unit', 'mup'),
        'seeds': (0, 1, 2, 3, 4),
        # What each network is trained to, from the same start; see
        # ntk/studies/width/training.py. (): the networks are measured at the start only.
        'phases': (
            'natural', 'natural_lazy', 'trades', 'trades_lazy', 'trades_timed', 'trades_matched',
        ),
        # Of TRADES.
        'lams': (3.0,),
    },
    'training': {
        # Of full-batch gradient descent.
        'num_steps': 100,
        # Learning rate, in units of n / (largest eigenvalue of the NTK on the training images) at
        # the tuned width and the start. From 2 on the squared loss diverges, and at small widths,
        # whose kernels fluctuate, from less on.
        'speed': 0.5,
        # Of all phases but 'natural_lazy'.
        'momentum': 0.9,
        # alpha of the lazy phases; for ReLU 1, see docs/parity.md.
        'lazy_scale': 100.0,
        # The width at which learning rates are set; each parametrization says how they change with
        # width from there.
        'tuned_width': 512.0,
        # 'trades_timed' and 'trades_matched' set the learning rate by each network's own largest
        # eigenvalue instead: equal kernel time. The latter ends where the natural risk on the
        # training images first comes down to this (half of chance, log 10 = 2.30) ...
        'matched_risk': 1.15,
        # ... and gives up after so many steps.
        'most_steps': 400,
    },
    # The ball of all attacks.
    'threat': {
        'norm': 'linf',
        'epsilon': 0.1,
    },
    'attack': {
        # Of TRADES in training.
        'num_steps': 5,
        'step_size': 0.04,
        # Of the measures, each of 2.5 epsilon / measure_steps.
        'measure_steps': 10,
    },
}


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or 'wrn,smoke'."""
    tokens = {'relu': _relu, 'wrn': _wrn, 'smoke': _smoke}
    return apply(argument, ConfigDict(DEFAULTS), tokens).lock()


def _relu(config: Tree) -> None:
    config.network.activation = 'relu'
    config.training.lazy_scale = 1.0
    config.grid.phases = ('natural', 'natural_lazy', 'trades')


def _wrn(config: Tree) -> None:
    config.network.kind = 'wrn'
    config.network.strides = (2, 1, 1)
    config.grid.widths = (0.125, 0.25, 0.5, 1.0, 2.0)
    config.grid.parametrizations = ('standard', 'ntk', 'mup')
    config.grid.seeds = (0, 1, 2)
    config.training.num_steps = 50
    config.training.tuned_width = 2.0


def _smoke(config: Tree) -> None:
    config.smoke = True
    config.data.num_train = 20
    config.data.num_test = 20
    config.data.num_kernel = 4
    widths = (8.0, 16.0) if config.network.kind == 'fcn' else (0.125, 0.25)
    config.grid.widths = widths
    config.grid.parametrizations = ('ntk', 'mup')
    config.grid.seeds = (0, 1)
    config.training.num_steps = 4
    config.training.most_steps = 8
    config.training.matched_risk = 2.2
    config.training.tuned_width = widths[-1]
    config.attack.num_steps = 2
    config.attack.step_size = 0.05
    config.attack.measure_steps = 3

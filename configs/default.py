"""Every key of the configuration, with its meaning: the one place that holds default values.

Not run by itself: configs/digits.py and configs/wrn.py start from it and change what differs. The
values are those of TRADES' own CIFAR-10 training of a WRN-34-10 (Zhang et al. 2019). Types and
permitted ranges stand beside the fields in war_jax/config.py. On the command line any key can be
set: `--config.attack.step_size=2/255` (numbers may be fractions).
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from war_jax.config_argument import Tree

DEFAULTS: dict[str, Any] = {
    # Initial weights, order of the examples, augmentation and attack starts are functions of
    # (seed, step): two runs with the same seed are the same run. All seeds share one validation
    # split.
    'seed': 0,
    'data': {
        # 'digits' (embedded), 'cifar10', 'cifar100', 'svhn_cropped' (TFDS, on disk), or 'npz:PATH'
        # with arrays train_images, train_labels, test_images, test_labels.
        'name': 'cifar10',
        # The TFDS data_dir that holds the set. '': environment variable TFDS_DATA_DIR, or else
        # TFDS's own default.
        'data_dir': '',
        # Examples held out of train, spread over the classes, to select the best checkpoint on.
        'num_validation': 1000,
        # Train on this many of the examples left (a fixed subset, spread over classes). 0: all.
        'max_train_examples': 0,
        # Random crop after padding by this many zeros on each side. 0: no crop.
        'pad': 4,
        # Random horizontal flip.
        'flip': True,
        # An .npz of further training images and (pseudo-)labels, e.g. RST's 500K. '': none.
        'extra_path': '',
        # Which fraction of every batch comes from there (RST: 0.5), rounded to whole images.
        'extra_fraction': 0.0,
    },
    # WideResNet-depth-widen_factor.
    'model': {
        # Three stages of (depth - 4) / 6 blocks of two convolutions.
        'depth': 34,
        # The stages are (16, 32, 64) * widen_factor channels wide; may be below 1.
        'widen_factor': 10.0,
        # Channels of the first convolution.
        'stem_channels': 16,
        # Strides of the three stages. XLA is slow on CPU where the last feature map is 2x2: 8x8
        # images want (1, 2, 1).
        'strides': (1, 2, 2),
        # Of the weights: 'float32', or 'float64' to compare with other implementations.
        'param_dtype': 'float32',
        # Of the convolutions: 'float32', 'bfloat16' or 'float64'.
        'compute_dtype': 'float32',
        # True: training keeps the inputs of blocks alone for its gradient, and computes the rest
        # anew. The same numbers for less memory and up to a third more work in the update.
        'remat': False,
    },
    'batch_norm': {
        # Weight of the new batch in the running statistics (PyTorch's sense of momentum).
        'momentum': 0.1,
        # Over the 'global' batch (the result does not depend on the number of devices), or
        # 'per_device' as under pmap or PyTorch's DataParallel.
        'statistics': 'global',
        # Which training passes update the running statistics, in order: 'natural,adversarial' as
        # in the WAR authors' TRADES code, 'adversarial,natural' as in their Madry code,
        # 'natural,adversarial,natural' as in TRADES' own.
        'updates': 'natural,adversarial',
    },
    # The perturbations that count, in training and in evaluation: a ball around the image.
    'threat': {
        # 'linf' or 'l2'.
        'norm': 'linf',
        # Its radius, for pixels in [0, 1]. The papers' code has 0.031, RobustBench 8/255 = 0.03137.
        'epsilon': 0.031,
    },
    # The attack inside the training step: projected gradient ascent.
    'attack': {
        # Gradient evaluations per example and step.
        'num_steps': 10,
        # Length of each, in the norm of the threat.
        'step_size': 0.007,
        # Start: 'gaussian' x + init_scale * N(0, 1), 'uniform' in init_scale * the ball, or 'none'.
        'init': 'gaussian',
        # Standard deviation, or fraction of the ball.
        'init_scale': 0.001,
    },
    # What is minimised: natural risk + lam * robust regularization.
    'objective': {
        # 'natural' (no attack), 'madry', 'trades' or 'mart'.
        'name': 'trades',
        # The weight of the robust regularization (beta in TRADES' code).
        'lam': 6.0,
        # Mass moved from the label to all classes alike, in every cross-entropy of the loss: that
        # of the clean images (natural, trades), of both (madry), of the adversarial ones (mart).
        # Not in the attack.
        'label_smoothing': 0.0,
    },
    # Width adjusted regularization: lambda grows during training until the risk ratio (natural risk
    # / robust regularization) is that of a tuned thin network.
    'war': {
        # The folder of the thin network's finished run, or its war.json. lambda then starts at the
        # thin network's (objective.lam is not used) and never falls below it. '': lambda stays
        # objective.lam.
        'reference': '',
        # What the ratio is held to: the thin network's 'trajectory' at the same share of training,
        # or its end value throughout ('constant').
        'target': 'trajectory',
        # Over a whole training, log lambda grows by gain * the mean of (log target - log ratio). On
        # digits the ratio follows its target at 6 and swings around it at 30 (docs/results.md).
        # 0: lambda is constant.
        'gain': 6.0,
        # The ratio is that of moving averages over this many epochs. What a reference was recorded
        # with, a run that uses it must have too.
        'averaging_epochs': 1.0,
        # lambda is at most this many times the thin network's.
        'max_factor': 10.0,
    },
    # Stochastic gradient descent.
    'optimizer': {
        # Passes over the training examples.
        'epochs': 76,
        # Examples per step, over all devices together.
        'batch_size': 128,
        # Parts of a batch that each device works on one after the other, to save memory. The
        # gradient is that of the whole batch, but BatchNorm sees one part at a time, as it sees one
        # device's with batch_norm.statistics = 'per_device'.
        'accumulation': 1,
        # At its peak; see the schedule.
        'learning_rate': 0.1,
        # Of the gradients.
        'momentum': 0.9,
        # Nesterov's momentum instead of Polyak's.
        'nesterov': False,
        # Added to the gradient, times the weights (coupled, as in PyTorch's SGD).
        'weight_decay': 2e-4,
        # True: decay BatchNorm's scales and all biases too, as the papers' code does.
        'decay_norm_and_bias': True,
        # 'piecewise': times `factor` from each epoch of `boundaries` on (epochs count from 1).
        # 'halving': from the one epoch in `boundaries` on, halved every epoch. 'cosine': to 0.
        'schedule': 'piecewise',
        # Epochs of the schedule; may lie behind the last one.
        'boundaries': (75, 90, 100),
        # Of the piecewise schedule.
        'factor': 0.1,
        # Linear warm-up over this many epochs, which need not be whole. 0: none.
        'warmup_epochs': 0.0,
    },
    # Decay per step of an exponential moving average of the weights, which is then what is
    # evaluated (Gowal et al. 2020: 0.995). 0: off.
    'ema_decay': 0.0,
    # Adversarial weight perturbation (Wu et al. 2020).
    'awp': {
        # Size of the perturbation, relative to the weights (theirs for TRADES: 0.005). 0: off.
        'gamma': 0.0,
        # Epochs trained without it first.
        'warmup_epochs': 10,
    },
    # The attack of the evaluations (PGD, and the same budget for CW), and what it is run on.
    'evaluation': {
        # Epochs between two evaluations on validation examples.
        'every_epochs': 1,
        # How many validation examples (or test ones, with select_on = 'test'). 0: all.
        'num_examples': 0,
        # Examples per step of an evaluation, over all devices together.
        'batch_size': 128,
        # PGD-20.
        'num_steps': 20,
        # Length of each step, in the norm of the threat.
        'step_size': 0.003,
        # Start, as in `attack`.
        'init': 'uniform',
        # As in `attack`.
        'init_scale': 1.0,
        # Attacks from as many starts: an example is robust only if it withstands all of them.
        'restarts': 1,
        # The radii of the final stability curve, as multiples of epsilon.
        'curve_scales': (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0),
        # How many test examples it is measured on. 0: all.
        'curve_examples': 1000,
        # The split that picks the best checkpoint. 'test' repeats the papers' code and biases the
        # test numbers upwards; the report then says so.
        'select_on': 'validation',
        # Test examples of the final evaluation. 0: all.
        'test_examples': 0,
    },
    'checkpoint': {
        # Epochs between two checkpoints; an evaluation makes one too.
        'every_epochs': 1,
        # Steps between two further ones. 0: none.
        'every_steps': 0,
        # How many of the latest to keep; the best is kept as well.
        'keep': 2,
    },
    'log': {
        # Steps between two training lines of metrics.jsonl.
        'every_steps': 50,
        # Write TensorBoard events too.
        'tensorboard': True,
    },
    # What `python -m ntk.main --config=configs/ntk_run.py --run=WORKDIR` measures along a run.
    'ntk': {
        # Steps between two probes (weights and batch statistics, in probes/); the first and the
        # last step have one too. Each is a file of the size of the weights. 0: none.
        'every': 0,
    },
}


def get_config() -> Tree:
    """Returns a locked ConfigDict: a key that is not here cannot be set."""
    return ConfigDict(DEFAULTS).lock()

"""Every key of the configuration, with its meaning: the one place that holds default values.

Not run by itself: configs/digits.py and configs/wrn.py start from it and change what differs. The
values are those of TRADES' own CIFAR-10 training of a WRN-34-10 (Zhang et al. 2019). Types and
permitted ranges stand beside the fields in war_jax/config.py. On the command line any key can be
set: `--config.attack.step_size=2/255` (numbers may be fractions).
"""

from ml_collections.config_dict import ConfigDict


def get_config() -> ConfigDict:
    """Returns a locked ConfigDict: a key that is not here cannot be set."""
    config = ConfigDict()

    # Initial weights, order of the examples, augmentation and attack starts are functions of
    # (seed, step): two runs with the same seed are the same run. The validation split is not.
    config.seed = 0

    config.data = ConfigDict()
    # 'digits' (embedded), 'cifar10', 'cifar100', 'svhn_cropped' (TFDS, on disk), or 'npz:PATH' with
    # arrays train_images, train_labels, test_images, test_labels.
    config.data.name = 'cifar10'
    # The TFDS data_dir that holds the set. '': environment variable TFDS_DATA_DIR, else TFDS's own.
    config.data.data_dir = ''
    # Examples held out of train, by class, to select the best checkpoint on. Never trained on.
    config.data.num_validation = 1000
    # Train on this many examples of those left (a fixed subset, spread over classes). 0: all.
    config.data.max_train_examples = 0
    # Random crop after padding by this many zeros on each side. 0: no crop.
    config.data.pad = 4
    # Random horizontal flip.
    config.data.flip = True
    # An .npz of further training images and (pseudo-)labels, e.g. RST's 500K. '': none.
    config.data.extra_path = ''
    # Which fraction of every batch comes from there (RST: 0.5).
    config.data.extra_fraction = 0.0

    config.model = ConfigDict()
    # WideResNet-depth-widen_factor: three stages of (depth - 4) / 6 blocks, whose widths are
    # (16, 32, 64) * widen_factor (may be below 1).
    config.model.depth = 34
    config.model.widen_factor = 10.0
    # Channels of the first convolution.
    config.model.stem_channels = 16
    # Strides of the three stages. XLA is slow on CPU where the last feature map is 2x2: small
    # images want (1, 2, 1).
    config.model.strides = (1, 2, 2)
    # 'float32', or 'float64' (needs JAX_ENABLE_X64=1) to compare with other implementations.
    config.model.param_dtype = 'float32'
    # Of the convolutions: 'float32', 'bfloat16' or 'float64'.
    config.model.compute_dtype = 'float32'

    config.batch_norm = ConfigDict()
    # Weight of the new batch in the running statistics (PyTorch's sense of momentum).
    config.batch_norm.momentum = 0.1
    # Over the 'global' batch (the result does not depend on the number of devices), or
    # 'per_device' as under pmap or PyTorch's DataParallel.
    config.batch_norm.statistics = 'global'
    # Which training passes update the running statistics, in order: 'natural,adversarial' as in the
    # WAR authors' code, 'natural,adversarial,natural' as in TRADES' own.
    config.batch_norm.updates = 'natural,adversarial'

    # The perturbations that count, in training and in evaluation: a ball around the image, in
    # pixels of [0, 1]. 0.031 is the papers' code; RobustBench has 8/255 = 0.03137.
    config.threat = ConfigDict()
    config.threat.norm = 'linf'  # or 'l2'
    config.threat.epsilon = 0.031

    # The attack inside the training step (PGD).
    config.attack = ConfigDict()
    config.attack.num_steps = 10
    config.attack.step_size = 0.007
    # Start: 'gaussian' x + init_scale * N(0, 1), 'uniform' in init_scale * the ball, or 'none'.
    config.attack.init = 'gaussian'
    config.attack.init_scale = 0.001

    # What is minimised: natural risk + lam * robust regularization.
    config.objective = ConfigDict()
    # 'natural' (no attack), 'madry', 'trades' or 'mart'.
    config.objective.name = 'trades'
    config.objective.lam = 6.0
    # Mass moved from the label to all classes alike in the natural risk.
    config.objective.label_smoothing = 0.0

    config.optimizer = ConfigDict()
    config.optimizer.epochs = 76
    # Over all devices together.
    config.optimizer.batch_size = 128
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = False
    config.optimizer.weight_decay = 2e-4
    # True: decay BatchNorm's scales and all biases too, as the papers' code does.
    config.optimizer.decay_norm_and_bias = True
    # 'piecewise': times `factor` from each epoch of `boundaries` on (epochs count from 1).
    # 'halving': from the one epoch in `boundaries` on, halved every epoch. 'cosine': to 0.
    config.optimizer.schedule = 'piecewise'
    config.optimizer.boundaries = (75, 90, 100)
    config.optimizer.factor = 0.1
    # Linear warm-up of the learning rate over this many epochs (may be a fraction of one).
    config.optimizer.warmup_epochs = 0.0

    # Decay per step of an exponential moving average of the weights, which is then what is
    # evaluated (Gowal et al. 2020: 0.995). 0: off.
    config.ema_decay = 0.0

    # Adversarial weight perturbation (Wu et al. 2020: gamma 0.005 for TRADES). 0: off.
    config.awp = ConfigDict()
    config.awp.gamma = 0.0
    config.awp.warmup_epochs = 10

    # The attack of the evaluations (PGD, and the same budget for CW), and what it is run on.
    config.evaluation = ConfigDict()
    config.evaluation.every_epochs = 1
    # Validation examples used at those evaluations. 0: all.
    config.evaluation.num_examples = 0
    config.evaluation.batch_size = 128
    config.evaluation.num_steps = 20
    config.evaluation.step_size = 0.003
    config.evaluation.init = 'uniform'
    config.evaluation.init_scale = 1.0
    # An example is robust only if it withstands all of them (final evaluation).
    config.evaluation.restarts = 1
    # The final stability curve: multiples of epsilon, and on how many test examples (0: all).
    config.evaluation.curve_epsilons = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
    config.evaluation.curve_examples = 1000
    # Which split picks the best checkpoint. 'test' repeats the papers' code and biases the test
    # numbers upwards; the report then says so.
    config.evaluation.select_on = 'validation'
    # Test examples of the final evaluation. 0: all.
    config.evaluation.test_examples = 0

    config.checkpoint = ConfigDict()
    # Besides the one at the end of each epoch. 0: none.
    config.checkpoint.every_steps = 0
    # How many of the latest to keep; the best is kept as well.
    config.checkpoint.keep = 2

    config.log = ConfigDict()
    # Steps between two training lines of metrics.jsonl.
    config.log.every_steps = 50
    # Write TensorBoard events too.
    config.log.tensorboard = True

    return config.lock()

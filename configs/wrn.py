"""WideResNets on CIFAR-10: TRADES' training of WRN-34-10, and what the papers vary of it.

    python -m war_jax.main --config=configs/wrn.py --workdir=runs/wrn-34-10
    python -m war_jax.main --config=configs/wrn.py:34-5,lambda=12 --workdir=runs/wrn-34-5-lambda-12

Needs the data set on disk: --config.data.data_dir=DIR or the environment variable TFDS_DATA_DIR.

Argument, comma-separated:
    DEPTH-WIDTH                        the network, e.g. 34-10 (default), 28-10, 10-0.5
    lambda=NUMBER                      weight of the robust regularization (default 6; madry 1;
                                       madry with authors 2)
    seed=NUMBER
    trades | trades_ce | madry | madry_per_example | mart | natural | adversarial
                                       objective (default trades)
    fgsm | fgsm_rs | n_fgsm | grad_align
                                       adversarial, with an attack of one step
    authors                            the WAR authors' plan instead of TRADES': batch 64, 100
                                       epochs, learning rate halved every epoch from 75 on,
                                       evaluated with the step of training (0.007); with madry
                                       also what their Madry code has: the positive part of each
                                       example (madry_per_example), BatchNorm's updates with
                                       adversarial images first, and their lambda for WRN-34-10.
                                       Checkpoints are selected on 1,000 images held out of
                                       training; theirs, on the test set, with
                                       --config.evaluation.select_on=test
                                       --config.data.num_validation=0
    cifar10 | cifar100 | svhn_cropped  data set
    smoke                              tiny network, few images, one epoch: is everything there?

What has been measured with it, on what: docs/results.md. The papers report for WRN-34-10 after
TRADES' 76 epochs 84.92 % natural and 56.61 % PGD-20 accuracy; we have not run that yet.
"""

from war_jax.config_argument import COMMON, SIZE, Tree, apply
from war_jax.configs import default


def get_config(argument: str = '') -> Tree:
    """Returns the config for an argument such as '' or '34-5,lambda=12'."""
    tokens = {
        **COMMON,
        'authors': _authors,
        **DATA,
        'smoke': smoke,
    }
    config = apply(argument, default.get_config(), tokens, DATA)
    given = argument.split(',')
    if 'authors' in given and config.objective.name == 'madry':
        config.objective.name = 'madry_per_example'
        config.batch_norm.updates = 'adversarial,natural'
        if not any(token.startswith('lambda=') for token in given):
            config.objective.lam = 2.0
    return config


def _authors(config: Tree) -> None:
    """Wu et al. 2021, as in their public code."""
    config.optimizer.batch_size = 64
    config.optimizer.epochs = 100
    config.optimizer.schedule = 'halving'
    config.optimizer.boundaries = (75,)
    config.evaluation.step_size = 0.007


def _cifar10(config: Tree) -> None:
    config.data.name = 'cifar10'


def _cifar100(config: Tree) -> None:
    config.data.name = 'cifar100'


def _svhn_cropped(config: Tree) -> None:
    config.data.name = 'svhn_cropped'
    config.data.flip = False  # a mirrored house number is another one, or none


DATA = {'cifar10': _cifar10, 'cifar100': _cifar100, 'svhn_cropped': _svhn_cropped}


def smoke(config: Tree) -> None:
    """Every part of the path, as little as possible of each; the accuracies mean nothing."""
    config.smoke = True
    config.data.num_validation = 32
    config.data.max_train_examples = 128
    config.model.depth = 10
    config.model.widen_factor = 0.25
    config.model.stem_channels = 4
    config.attack.num_steps = min(2, config.attack.num_steps)
    config.optimizer.batch_size = 32
    config.optimizer.epochs = 1
    config.evaluation.batch_size = 32
    config.evaluation.num_steps = 3
    config.evaluation.curve_scales = (0.0, 1.0)
    config.evaluation.curve_examples = 32
    config.evaluation.test_examples = 48
    config.log.every_steps = 1


def _smoke_of_recipe(config: Tree) -> None:
    """Likewise, without the images that the user has to bring."""
    smoke(config)
    config.data.extra_fraction = 0.0
    config.ema_start = min(config.ema_start, 0.5)
    config.awp.warmup_epochs = 0
    if config.model.name == 'preact_resnet':  # whose first stage has four times the channels
        config.model.widen_factor /= 4


# What may stand behind the colon of the files in configs/recipes.
RECIPE = {
    **{token: COMMON[token] for token in (SIZE, 'lambda=', 'seed=')},
    'smoke': _smoke_of_recipe,
}

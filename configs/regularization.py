"""Is adversarial robustness a regularization? A sweep of epsilon, and what it does to a network.

    python -m war_jax.studies.regularization --config=configs/regularization.py \\
        --workdir=runs/epsilon
    python -m war_jax.studies.regularization --config=configs/regularization.py --runs=runs/study
    python -m war_jax.studies.regularization --config=configs/regularization.py:smoke \\
        --workdir=runs/smoke

Argument:
    (nothing)   256 handwritten digits, WRN-10-0.5, six epsilons, five seeds
    smoke       every part, as little as possible of each

With --runs=FOLDER the networks are those of a finished study of war_jax.studies.width that was made
with --config.ntk.every=STEPS, which keeps the networks along training; nothing but `measure` of
this file is then used, and results go to FOLDER/regularization unless a --workdir is given.

By default six minutes on two cores. Margins and confidence fall with epsilon and so does
the gap between test and training loss, while the distance to the boundary grows; gains fall in most
layers, but do not come to vary less: docs/results.md. At epsilon = 0.3 training hardly leaves the
loss of chance; for a comparison at a training loss that means something, leave it out:
--config.sweep.epsilons='(0.0, 0.05, 0.1, 0.15, 0.2)', in the same workdir.

Every key of a single run is explained in war_jax/config_keys.py, those of `study` in
configs/width_study.py; epsilon, the step sizes of attacks (in proportion to it), width, lambda and
the seed are set by the sweep.
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from war_jax.config_argument import Tree, apply
from war_jax.configs import digits

STUDY: dict[str, Any] = {
    'widths': (0.5,),
    # natural + 1 * (adversarial - natural) risk: Madry's adversarial training.
    'lams': (1.0,),
    'seeds': (0, 1, 2, 3, 4),
    'war': (),
    'devices_per_run': 1,
    'autoattack_examples': 0,
}
SWEEP: dict[str, Any] = {
    # Radii of the ball that the networks are trained against; 0 is natural training.
    'epsilons': (0.0, 0.05, 0.1, 0.15, 0.2, 0.3),
}
MEASURE: dict[str, Any] = {
    # Images, balanced over the classes, of the training and of the test set.
    'num_train': 256,
    'num_test': 200,
    # Of the test images, those whose distance to the boundary is searched.
    'num_distance': 30,
    # One radius for all networks, in the norm they were trained in: of the adversarial
    # perturbations whose way through the layers is followed, and of robust accuracy.
    'epsilon': 0.1,
    'attack_steps': 10,
    # Of the search for the boundary, for each target class.
    'search_steps': 15,
    # Random perturbations of each test image, drawn from the same ball.
    'directions': 4,
}


def get_config(argument: str = '') -> Tree:
    """Returns the config for '' or 'smoke'."""
    config: Tree = digits.get_config('madry').unlock()
    config.study, config.sweep, config.measure = map(ConfigDict, (STUDY, SWEEP, MEASURE))
    config.data.num_validation = 150
    config.data.max_train_examples = 256
    config.model.strides = (2, 1, 1)
    config.optimizer.epochs = 60
    config.log.tensorboard = False
    config.log.every_steps = 20
    config.checkpoint.keep = 1
    config.checkpoint.every_epochs = 30
    # A run's own evaluation is not what is compared here.
    config.evaluation.every_epochs = 60
    config.evaluation.restarts = 1
    config.evaluation.num_steps = 10
    config.evaluation.test_examples = 100
    config.evaluation.curve_scales = (1.0,)
    config.evaluation.curve_examples = 50
    config.ntk.every = 8  # an epoch is two steps
    return apply(argument, config, {'smoke': _smoke}).lock()


def _smoke(config: Tree) -> None:
    config.smoke = True
    config.data.max_train_examples = 128
    config.data.num_validation = 32
    config.model.stem_channels = 4
    config.study.widths = (0.125,)
    config.study.seeds = (0,)
    config.sweep.epsilons = (0.0, 0.2)
    config.attack.num_steps = 2
    config.optimizer.epochs = 8
    config.optimizer.batch_size = 64
    config.checkpoint.every_epochs = 8
    config.evaluation.every_epochs = 8
    config.evaluation.batch_size = 32
    config.evaluation.num_steps = 2
    config.evaluation.test_examples = 32
    config.evaluation.curve_examples = 32
    config.ntk.every = 4
    config.measure.num_train = 40
    config.measure.num_test = 40
    config.measure.num_distance = 10
    config.measure.attack_steps = 3
    config.measure.search_steps = 5
    config.measure.directions = 2

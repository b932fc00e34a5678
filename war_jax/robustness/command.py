"""Robust accuracy of a trained network under strong attacks.

    python -m war_jax.evaluate --checkpoint=runs/demo                         # AutoAttack
    python -m war_jax.evaluate --checkpoint=runs/demo --attack=pgd20,cw20,multitargeted
    python -m war_jax.evaluate --checkpoint=wrn34.pt --data=cifar10 --norm=linf --epsilon=8/255 \\
        --workdir=runs/wrn34 --num_examples=1000

--checkpoint is the folder of a run of war_jax.main, or a residual network of PyTorch's in a .pt,
.pth, .safetensors or .npz file. What such a file does not say is told by --strides, --activation,
--input_mean with --input_std, or --normalize. The same command again continues an evaluation that
was stopped. Results go to evaluation.json, evaluation.md, examples.npz and figures/ in the workdir.
Exit codes: 0 done, 1 writing failed, 2 refused (one line on stderr says why), 75 another process of
the job was lost, 130 and 143 stopped by SIGINT and SIGTERM, with everything found so far kept.
"""

import os
import re
import sys
from typing import Annotated, Any

from absl import flags

from war_jax import command_line
from war_jax.config_rules import ConfigError, convert, nearest, number
from war_jax.config_types import DATA_NAME, DATA_NAMES
from war_jax.program import Program

NORMS = ('linf', 'l2')


def define_flags(values: flags.FlagValues) -> None:
    of: dict[str, Any] = {'flag_values': values}
    text, whole = flags.DEFINE_string, flags.DEFINE_integer
    text('checkpoint', None, 'the folder of a run, or a file of PyTorch tensors', **of)
    text('workdir', '', 'what is written to; for a run RUN/evaluation unless given', **of)
    text(
        'attack', 'autoattack', 'one or several, separated by commas: autoattack (apgd-ce, apgd-t, '
        'fab-t, square), apgd-dlr, multitargeted, pgdN, cwN', **of,
    )  # fmt: skip
    text('norm', '', 'of the ball, linf or l2; as in training unless given', **of)
    text('epsilon', '', 'radius of the ball, as 0.031 or 8/255; as in training unless given', **of)
    names = f'{", ".join(DATA_NAMES)} or npz:PATH'
    text('data', '', f'the data set, {names}; as in training unless given', **of)
    text('data_dir', '', 'the TFDS data_dir that holds it; as in training unless given', **of)
    text(
        'strides', '', 'of the stages of a network in a file; as the file says, or 1,2,2, '
        'unless given', **of,
    )  # fmt: skip
    flags.DEFINE_enum(
        'activation', '', ['', 'relu', 'swish', 'gelu'], 'of a network in a file; as its names say '
        'unless given', **of,
    )  # fmt: skip
    text('input_mean', '', 'of each channel, where a network in a file normalises its input', **of)
    text('input_std', '', 'of each channel; as the file says unless given', **of)
    flags.DEFINE_enum(
        'normalize', '', ['', 'per_image'], 'per_image: a network in a file normalises each image '
        'by its own mean and deviation', **of,
    )  # fmt: skip
    text(
        'weights', '', 'which of several networks in a file: ema for the averaged one, or its name '
        'there', **of,
    )  # fmt: skip
    whole('num_examples', 0, 'test images, balanced over the classes; 0: all', lower_bound=0, **of)
    whole('batch_size', 256, 'images at a time, over all devices', lower_bound=1, **of)
    whole('seed', 0, 'of all random numbers', lower_bound=0, upper_bound=2**32 - 1, **of)
    whole('curve_examples', 500, 'for the curve over epsilon; 0: no curve', lower_bound=0, **of)
    flags.DEFINE_bool('stability', True, 'attack images that are misclassified anyway, too', **of)


def read(values: flags.FlagValues) -> tuple[dict[str, Any], str]:
    """The arguments of `war_jax.robustness.run.Settings`, and the workdir. Raises ConfigError."""
    settings = {
        'checkpoint': values.checkpoint,
        'attack': values.attack,
        'norm': _norm(values.norm),
        'epsilon': _epsilon(values.epsilon),
        'data': _data(values.data),
        'data_dir': values.data_dir,
        'file': _file_options(values),
        'num_examples': values.num_examples,
        'batch_size': values.batch_size,
        'seed': values.seed,
        'stability': values.stability,
        'curve_examples': values.curve_examples,
    }
    return settings, _workdir(values.checkpoint, values.workdir)


def work(settings: tuple[dict[str, Any], str], command: str) -> int:
    from war_jax.mesh import spread_over_cores
    from war_jax.robustness.network import FileOptions
    from war_jax.robustness.page import attacks_table, sentence
    from war_jax.robustness.run import Settings, run

    values, workdir = settings
    spread_over_cores(values['batch_size'])
    settings_of_run = Settings(**{**values, 'file': FileOptions(**values['file'])})
    result = run(settings_of_run, workdir, command)
    for doubt in result['doubts']:
        print(f'warning: {doubt}')
    print(f'{attacks_table(result)}\n{sentence(result)}\nreport: {workdir}/evaluation.md')
    return 0


def _norm(text: str) -> str:
    """Empty if it is not given. Raises ConfigError."""
    if text not in ('', *NORMS):
        rule = f'must be one of {", ".join(NORMS)}'
        raise ConfigError(f'--norm={text}: {rule}; nearest: --norm={nearest(text, NORMS)}')
    return text


def _file_options(values: flags.FlagValues) -> dict[str, Any]:
    """The arguments of `war_jax.robustness.network.FileOptions`. Raises ConfigError."""
    mean = _numbers('input_mean', values.input_mean)
    std = _numbers('input_std', values.input_std)
    if values.normalize and (mean or std):
        raise ConfigError(
            f'--normalize={values.normalize}: must not come with --input_mean and --input_std'
        )
    return {
        'strides': _strides(values.strides),
        'mean': mean,
        'std': std,
        'normalize': values.normalize,
        'activation': values.activation,
        'weights': values.weights,
    }


def _data(name: str) -> str:
    """By training's rule, '' apart. Raises ConfigError."""
    return name and convert('--data', name, Annotated[str, DATA_NAME])


def _epsilon(text: str) -> float:
    """0 if it is not given. Raises ConfigError."""
    if not text:
        return 0.0
    try:
        epsilon = number(text)
    except ValueError:
        epsilon = 0.0
    if not 0 < epsilon < float('inf'):
        raise ConfigError(f'--epsilon={text}: must be above 0, as 0.031 or 8/255')
    return epsilon


def _strides(text: str) -> tuple[int, ...]:
    """Empty if they are not given. Raises ConfigError."""
    if not text:
        return ()
    if re.fullmatch(r'[1-9](,[1-9]){2,3}', text.replace(' ', '')) is None:
        rule = 'must be three or four whole numbers from 1 to 9, as 1,2,2'
        raise ConfigError(f'--strides={text}: {rule}')
    return tuple(map(int, text.split(',')))


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    """Empty if it is not given. Raises ConfigError."""
    try:
        numbers = tuple(number(part) for part in text.split(',')) if text else ()
    except ValueError:
        numbers = (float('nan'),)
    lowest = 0.0 if flag == 'input_std' else -float('inf')
    if not all(lowest < value < float('inf') for value in numbers):
        rule = 'positive numbers' if flag == 'input_std' else 'numbers'
        raise ConfigError(f'--{flag}={text}: must be {rule}, as 0.5 or 0.49,0.48,0.45')
    return numbers


def _workdir(checkpoint: str, workdir: str) -> str:
    if not workdir and not os.path.isdir(checkpoint):
        raise ConfigError('--workdir: must be given, unless --checkpoint is the folder of a run')
    return command_line.check_workdir(workdir or os.path.join(checkpoint, 'evaluation'))


main = Program('war_jax.evaluate', __doc__ or '', define_flags, read, work, has_config=False)

if __name__ == '__main__':
    sys.exit(main(sys.argv))

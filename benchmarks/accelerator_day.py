"""The first minutes on an accelerator: every number that is wanted from one, by priority.

    python -m benchmarks.accelerator_day --minutes=9 --data=npz:cifar10.npz
    python -m benchmarks.accelerator_day --parts=checks,steps --minutes=5
    python -m benchmarks.accelerator_day --rehearse        # on the CPU, tiny: is everything there?

    checks   is float32 float32, are steps those of the CPU?             (benchmarks.device_checks)
    steps    TRADES steps of WRN-34-1, -10 and -5 beside PyTorch's       (benchmarks.train_step)
    study    does wider help? WRN-34-{1, 5, 10}, two lambdas and WAR        (war_jax.studies.width)
    attack   AutoAttack on the study's WRN-34-1                                  (war_jax.evaluate)

Each part has a share of the time; what it does not need goes to those behind it, and what takes
longer is told to stop, keeps what it has, and counts as such. No network is needed, nor are
tensorflow-datasets, array_record and neural-tangents; without PyTorch `steps` is left out. --data
is a data set by name or npz:PATH (`data.name`); the study takes 10,000 of its images. Everything is
written to --output, after every part: day.json, and each part's log and results. Exit code 1 where
a part failed.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from war_jax.records.files import write_json

OUTPUT = Path('runs/accelerator_day')
GRACE = 15  # seconds to write a checkpoint in
WIDTHS, LAMBDAS = (1.0, 5.0, 10.0), (6.0, 18.0)


class Part(NamedTuple):
    """Commands behind python -m, one after the other; `beside` runs along with the first."""

    name: str
    share: float  # of the time
    commands: Sequence[str]
    results: Sequence[str]  # files under the output folder
    needs: str = ''  # a package that may be absent
    beside: str = ''


def real_parts(output: Path, data: str, depth: int, epochs: int) -> list[Part]:
    networks = f'--networks={depth}-1,{depth}-10,{depth}-5'
    steps = f'benchmarks.train_step {networks} --batch=128 --chain=20 --repeats=3'
    warm = f'benchmarks.torch_baseline {networks} --batch=128 --precision=bfloat16,float32'
    study = {
        'study.widths': WIDTHS, 'study.lams': LAMBDAS, 'study.seeds': (0,),
        'study.war': ('trajectory',), 'data.name': data, 'data.num_validation': 250,
        'data.max_train_examples': 9750, 'model.depth': depth, 'model.compute_dtype': 'bfloat16',
        'optimizer.batch_size': 128, 'optimizer.epochs': epochs, 'optimizer.schedule': 'cosine',
        'evaluation.every_epochs': epochs, 'evaluation.batch_size': 250, 'evaluation.restarts': 1,
        'evaluation.num_examples': 250, 'evaluation.test_examples': 500,
        'evaluation.curve_examples': 100, 'evaluation.curve_scales': (1.0,),
        'checkpoint.every_epochs': 1, 'log.every_steps': 39,
    }  # fmt: skip
    keys = ' '.join(f'--config.{key}={_joined(value)}' for key, value in study.items())
    return [
        Part(
            'checks', 1, [f'benchmarks.device_checks --output={output}/device_checks.json'],
            ['device_checks.json'], beside=warm if _is_there('torch') else '',
        ),
        Part(
            'steps', 3,
            [f'{steps} --precision={precision} --output={output}/steps_{precision}.json'
             for precision in ('bfloat16', 'float32')],
            ['steps_bfloat16.json', 'steps_float32.json'], needs='torch',
        ),
        Part(
            'study', 4,
            ['war_jax.studies.width --config=configs/width_study.py:paper '
             f'--workdir={output}/study {keys}'],
            ['study/verdicts.json'],
        ),
        Part(
            'attack', 2,
            [f'war_jax.evaluate --checkpoint={output}/study/runs/k1-lam6-seed0 '
             f'--workdir={output}/attack --num_examples=1000 --batch_size=500'],
            ['attack/evaluation.json'],
        ),
    ]  # fmt: skip


def rehearsed_parts(output: Path) -> list[Part]:
    network = '10-0.25'
    return [
        Part(
            'checks', 2,
            [f'benchmarks.device_checks --network={network} --steps=2 --ways=1 '
             f'--output={output}/device_checks.json'],
            ['device_checks.json'],
        ),
        Part(
            'steps', 1,
            [f'benchmarks.train_step --networks={network} --batch=8 --chain=2 --repeats=1 '
             f'--output={output}/steps.json'],
            ['steps.json'], needs='torch',
        ),
        Part(
            'study', 3,
            [f'war_jax.studies.width --config=configs/width_study.py:smoke '
             f'--workdir={output}/study --config.study.war=() --config.study.widths=(0.125,) '
             '--config.study.lams=(1.0,) --config.study.seeds=(0,) --config.optimizer.epochs=1 '
             '--config.evaluation.curve_scales=(0.0,)'],
            ['study/verdicts.json'],
        ),
        Part(
            'attack', 1,
            [f'war_jax.evaluate --checkpoint={output}/study/runs/k0.125-lam1-seed0 '
             f'--workdir={output}/attack --num_examples=16 --batch_size=16 --attack=apgd-ce'],
            ['attack/evaluation.json'],
        ),
    ]  # fmt: skip


def _joined(value: Any) -> str:
    """As one word of a command line."""
    return str(value).replace(' ', '')


def _is_there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def run(part: Part, output: Path, seconds: float) -> dict[str, Any]:
    """What became of it; its log is `output`/NAME.log."""
    if part.needs and not _is_there(part.needs):
        return {'outcome': f'left out: {part.needs} is not installed', 'seconds': 0.0}
    started = time.monotonic()
    environment = {
        **os.environ,
        'JAX_COMPILATION_CACHE_DIR': str(output / 'programs'),
        'TORCHINDUCTOR_CACHE_DIR': str(output / 'torch_programs'),
        'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',  # PyTorch runs beside
        'PYTHONUNBUFFERED': '1',
    }
    for name in part.results:  # of an earlier call
        (output / name).unlink(missing_ok=True)
    outcome, running = 'done', []
    with open(output / f'{part.name}.log', 'ab') as log:

        def start(command: str) -> subprocess.Popen[bytes]:
            log.write(f'$ python -m {command}\n'.encode())
            log.flush()
            words = [sys.executable, '-m', *command.split()]
            running.append(subprocess.Popen(words, stdout=log, stderr=log, env=environment))
            return running[-1]

        try:
            beside = start(part.beside) if part.beside else None
            for command in part.commands:
                code = _wait(start(command), seconds - (time.monotonic() - started))
                if code is None:
                    outcome = f'stopped after its {seconds:.0f} s'
                    break
                if code:
                    outcome = f'failed: {command.split()[0]} ended with {code}, see {part.name}.log'
                    break
            if beside is not None and outcome == 'done':
                _wait(beside, seconds - (time.monotonic() - started))
        finally:  # nothing is left on the device, also if this process is told to stop
            for process in running:
                _wait(process, 0)
    results = {}
    for name in part.results:
        if (output / name).exists():
            results[name] = json.loads((output / name).read_text())
    return {
        'outcome': outcome, 'seconds': time.monotonic() - started,
        'commands': list(part.commands), 'results': results,
    }  # fmt: skip


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Its exit code; None where it had to be told to stop, for which it has GRACE seconds."""
    try:
        return process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return None


def main() -> None:
    parser = argparse.ArgumentParser('python -m benchmarks.accelerator_day', description=__doc__)
    parser.add_argument('--minutes', type=float, default=9.0, help='for all parts together')
    parser.add_argument('--data', default='cifar10', help="the study's data.name")
    parser.add_argument('--parts', default='', help='some of them, separated by commas')
    parser.add_argument('--depth', type=int, default=34, help='of all networks')
    parser.add_argument('--epochs', type=int, default=6, help='of each run of the study')
    parser.add_argument('--rehearse', action='store_true', help='tiny, on the CPU')
    parser.add_argument('--output', type=Path, default=OUTPUT, help='a folder')
    flags = parser.parse_args()
    output: Path = flags.output.absolute()
    if flags.rehearse:
        os.environ['JAX_PLATFORMS'] = 'cpu'
        parts = rehearsed_parts(output)
    else:
        parts = real_parts(output, flags.data, flags.depth, flags.epochs)
    chosen = flags.parts.split(',') if flags.parts else [part.name for part in parts]
    unknown = set(chosen) - {part.name for part in parts}
    if unknown:
        names = ', '.join(part.name for part in parts)
        parser.error(f'--parts: {", ".join(sorted(unknown))}: must be of {names}')
    parts = [part for part in parts if part.name in chosen]
    output.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * flags.minutes
    signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    kept = output / 'day.json'  # of a call for other parts
    day: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for number, part in enumerate(parts):
        shares = sum(later.share for later in parts[number:])
        day[part.name] = run(part, output, (end - time.monotonic()) * part.share / shares)
        write_json(output / 'day.json', day)
        outcome, seconds = day[part.name]['outcome'], day[part.name]['seconds']
        print(f'{part.name:<8} {seconds:6.0f} s  {outcome}', flush=True)
    print(f'\n{output / "day.json"}')
    raise SystemExit(any(day[part.name]['outcome'].startswith('failed') for part in parts))


if __name__ == '__main__':
    main()

"""A run in its workdir, from a configuration to a report.

    summary = train(config, 'runs/demo')         # again, after any interruption: goes on from there

workdir/ then holds config.json, metrics.jsonl, tensorboard/, checkpoints/, summary.json,
examples.npz, report.md and figures/; with ntk.every, probes/; and war.json, if lambda was constant:
with it, the run is a reference to which `war.reference` of a wider network can hold.

    parts = build(config, splits, mesh)
    summary = finish(parts, splits, workdir, stop, display)      # the same without the report
"""

import json
from pathlib import Path
from typing import Any

from war_jax.config import Config, to_dict
from war_jax.config_rules import check_is_local
from war_jax.data.sources import Splits, checksum, load
from war_jax.mesh import check_divisible, make_mesh, spread_over_cores
from war_jax.processes import on_first
from war_jax.records.console import Display, describe_accuracies, smoke_sentence
from war_jax.records.files import plain, read_json_lines, write_json
from war_jax.records.interrupt import Stop, signals
from war_jax.records.logbook import check_is_there
from war_jax.records.provenance import claim_workdir, lock_workdir
from war_jax.records.reference import (
    FILE,
    Reference,
    check_reference,
    make_reference,
    read_reference,
    write_reference,
)
from war_jax.report.run_report import write_report
from war_jax.training.build import Parts, build, precision
from war_jax.training.loop import Run


def spread(config: Config) -> None:
    """All cores of a CPU, if that changes no result; call it before JAX starts its backend."""
    if config.batch_norm.statistics == 'global':  # else the number of devices changes the result
        part = config.optimizer.batch_size // config.optimizer.accumulation
        spread_over_cores(part, config.evaluation.batch_size)


def train(config: Config, workdir: str | Path, command: str | None = None) -> dict[str, Any]:
    """Train, evaluate on the test set and report, or go on where an earlier call stopped.

    `command` is what the user typed, for the report. Returns the contents of summary.json. Raises
    DataError for data that cannot be had, ConfigError for a batch that the devices cannot share,
    for a reference that cannot serve, for a workdir that is an address (gs://...), is in use or
    holds another run, and for a log.wandb without that package, TrainingError for a loss that is
    not finite, SystemExit(128 + signal number) after SIGINT or SIGTERM, with a checkpoint written.
    """
    check_is_local(workdir)
    check_is_there(config.log.wandb)
    workdir = Path(workdir)
    splits = load(config.data)
    reference = read_checked(config, splits)
    mesh = make_mesh()
    optimizer = config.optimizer
    check_divisible(mesh, 'optimizer.batch_size', optimizer.batch_size, optimizer.accumulation)
    check_divisible(mesh, 'evaluation.batch_size', config.evaluation.batch_size)
    display = Display()
    with precision(config), signals() as stop:
        was_finished = (workdir / 'summary.json').exists()
        parts = build(config, splits, mesh, reference)
        summary = finish(parts, splits, workdir, stop, display, command)
        if was_finished:  # said only now: it may have held a run of another configuration
            display.say(f'{workdir} holds this run, finished; its report is drawn again.')
        report = on_first(lambda: str(write_report(workdir)))
    lines = [f'test: {describe_accuracies(summary)}', smoke_sentence(to_dict(config))]
    print('\n'.join([*filter(None, lines), f'report: {report}']))
    return summary


def finish(
    parts: Parts,
    splits: Splits,
    workdir: Path,
    stop: Stop,
    display: Display,
    command: str | None = None,
) -> dict[str, Any]:
    """Train and evaluate what is not yet done in `workdir`; returns the contents of summary.json.

    Raises as `train` does.
    """
    config, reference = parts.config, parts.reference
    summary_path = workdir / 'summary.json'
    with lock_workdir(workdir):
        digest = checksum(splits)
        held_to = plain(reference and vars(reference))
        about = claim_workdir(
            workdir, to_dict(config), splits.provenance, digest, command, parts.devices, held_to
        )
        if not on_first(summary_path.exists):
            summary = Run(parts, splits, workdir, stop, display)()

            def conclude() -> None:
                if reference is None:
                    offered = make_reference(config, digest, epoch_ratios(workdir, parts), about)
                    if offered is not None:
                        write_reference(workdir / FILE, offered)
                write_json(summary_path, summary)  # last: its presence says that all is done

            on_first(conclude)
        return on_first(lambda: json.loads(summary_path.read_text()))


def read_checked(config: Config, splits: Splits) -> Reference | None:
    """What config.war.reference names, if anything. Raises ConfigError if it cannot serve."""
    if not config.war.reference:
        return None
    reference = read_reference(config.war.reference)
    check_reference(reference, config, checksum(splits))
    return reference


def epoch_ratios(workdir: Path, parts: Parts) -> list[float | None]:
    """The averaged risk ratio at the end of each epoch of a run's metrics."""
    rows = read_json_lines(workdir / 'metrics.jsonl')
    return [
        row['averaged_risk_ratio']
        for row in rows
        if row['kind'] == 'train' and row['step'] % parts.steps_per_epoch == 0
    ]

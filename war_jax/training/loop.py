"""A whole run, over data and time: batches, clocks, signals, checkpoints.

    summary = train(config, 'runs/demo')         # again, after any interruption: goes on from there

workdir/ then holds config.json, metrics.jsonl, tensorboard/, checkpoints/, summary.json,
examples.npz, report.md and figures/. Order, augmentation, noise and evaluation are functions of
(seed, step, example), and the checkpoints hold the rest, so a run that was killed and started again
ends with the same bits as one that was not.
"""

import dataclasses
import json
import math
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from war_jax.config import Config, to_dict
from war_jax.data.batches import Plan, eval_plan, train_plan
from war_jax.data.device import DeviceData
from war_jax.data.sources import Splits, balanced_subset, checksum, load
from war_jax.measures import evaluation
from war_jax.mesh import check_divisible, make_mesh
from war_jax.records.console import describe, describe_accuracies, progress_bar
from war_jax.records.files import write_json, write_npz
from war_jax.records.interrupt import Interrupted, Stop, signals
from war_jax.records.logbook import Logbook
from war_jax.records.meter import Meter
from war_jax.records.provenance import claim_workdir, lock_workdir, session
from war_jax.report.run_report import write_report
from war_jax.training.build import Parts, build, extra_per_batch, precision
from war_jax.training.checkpoint import Checkpoints, Progress
from war_jax.training.state import TrainState
from war_jax.training.step import Metrics
from war_jax.training.war import recent_risks

# Steps that the devices may be ahead of the loop: enough to keep them busy, few enough that a
# signal is answered, and a loss that is not finite is seen, within a step or two.
_IN_FLIGHT = 2
_EVALUATION_STREAM = 2**31 - 1  # folded into the seed's key: no training step has this number


class TrainingError(RuntimeError):
    """Training cannot go on; the message is one line that says where and what to do."""


def train(config: Config, workdir: str | Path, command: str | None = None) -> dict[str, Any]:
    """Train, evaluate on the test set and report, or go on where an earlier call stopped.

    `command` is what the user typed, for the report. Returns the contents of summary.json. Raises
    DataError for data that cannot be had, ConfigError for a batch that the devices cannot share
    and for a workdir that is in use or holds another run, TrainingError for a loss that is not
    finite, SystemExit(128 + signal number) after SIGINT or SIGTERM, with a checkpoint written.
    """
    workdir = Path(workdir)
    splits = load(config.data)
    mesh = make_mesh()
    check_divisible(mesh, 'optimizer.batch_size', config.optimizer.batch_size)
    check_divisible(mesh, 'evaluation.batch_size', config.evaluation.batch_size)
    summary_path = workdir / 'summary.json'
    with lock_workdir(workdir), precision(config), signals() as stop:
        claim_workdir(workdir, to_dict(config), splits.provenance, checksum(splits), command)
        if summary_path.exists():
            print(f'{workdir} holds this run, finished; its report is drawn again.')
        else:
            summary = Run(config, splits, build(config, splits, mesh), workdir, stop)()
            write_json(summary_path, summary)
        report = write_report(workdir)
    summary = json.loads(summary_path.read_text())
    print(f'test: {describe_accuracies(summary)}\nreport: {report}')
    return summary


class Run:
    """One run in its workdir: calling it trains, evaluates and returns the summary."""

    def __init__(self, config: Config, splits: Splits, parts: Parts, workdir: Path, stop: Stop):
        self.config, self.splits, self.parts = config, splits, parts
        self.workdir, self.stop = workdir, stop
        self.checkpoints = Checkpoints(workdir / 'checkpoints', config.checkpoint.keep)
        self.evaluation_key = jax.random.fold_in(jax.random.key(config.seed), _EVALUATION_STREAM)
        self.started = time.perf_counter()
        self.on_devices: dict[str, DeviceData] = {}

    def __call__(self) -> dict[str, Any]:
        state, progress = self.parts.create_state(), Progress()
        restored = self.checkpoints.restore(like=state)
        if restored is not None:
            state, progress = restored
        print(f'{self.parts.describe(self.splits)}\n{self.workdir}: {self.parts.position(state)}')
        self.started -= progress.seconds
        tensorboard = self.config.log.tensorboard
        try:
            with Logbook(self.workdir, step=int(state.step), tensorboard=tensorboard) as log:
                log.write(session(int(state.step)))
                state, progress = self.fit(state, progress, log)
            return self.measure(state, progress)
        finally:
            self.checkpoints.close()

    def seconds(self) -> float:
        """Wall time of this run, all its sessions up to their last checkpoints together."""
        return time.perf_counter() - self.started

    def fit(
        self, state: TrainState, progress: Progress, log: Logbook
    ) -> tuple[TrainState, Progress]:
        """From `state` to the last step, with logs, validations and checkpoints on the way."""
        parts, config = self.parts, self.config
        extra = () if self.splits.extra is None else (self.splits.extra,)
        data = DeviceData(parts.mesh, self.splits.train, *extra)
        key, step, meter = parts.key, int(state.step), Meter(progress.sums)
        pending: deque[tuple[int, Metrics]] = deque()

        def settle(in_flight: int) -> None:
            while len(pending) > in_flight:
                done, metrics = pending.popleft()
                meter.add(self.checked(done, jax.device_get(metrics))._asdict())

        if self.is_validation(step) and progress.validated_step < step:
            progress = self.validate(state, step, progress, log)  # it was interrupted
            self.leave_if_told(step)  # interrupted again: this state is on disk already
        with progress_bar('train', parts.total_steps, initial=step) as bar:
            for indices, mask in self.batches(step):
                state, metrics = parts.step(state, key, data.batch(indices, mask))
                step += 1
                pending.append((step, metrics))
                settle(_IN_FLIGHT)
                bar.update()
                end_of_epoch = step % parts.steps_per_epoch == 0
                if step % config.log.every_steps == 0 or end_of_epoch:
                    settle(0)
                    row = self.training_row(step, meter)
                    log.write(row)
                    bar.set_postfix_str(describe(row))
                if self.is_validation(step):
                    settle(0)
                    progress = self.validate(state, step, progress, log)
                    meter.pause()
                every = config.checkpoint.every_steps
                if end_of_epoch or (every and step % every == 0) or self.stop.signum:
                    settle(0)  # no state is written before its loss is known to be finite
                    progress = dataclasses.replace(
                        progress, sums=meter.sums, seconds=self.seconds()
                    )
                    self.checkpoints.save(state, progress)
                    self.leave_if_told(step)
        return state, progress

    def batches(self, step: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(indices, mask) of every step after the first `step` ones, until the last epoch's end."""
        steps_per_epoch = self.parts.steps_per_epoch
        num_extra = 0 if self.splits.extra is None else len(self.splits.extra.labels)
        for epoch in range(step // steps_per_epoch, self.config.optimizer.epochs):
            plan = train_plan(
                self.config.seed,
                epoch,
                len(self.splits.train.labels),
                self.config.optimizer.batch_size,
                num_extra,
                extra_per_batch(self.config),
            )
            done = max(step - epoch * steps_per_epoch, 0)
            yield from zip(plan.indices[done:], plan.mask[done:], strict=True)

    def checked(self, step: int, metrics: Metrics) -> Metrics:
        """The metrics of a step, if training can go on from it."""
        loss, gradient_norm = float(metrics.loss), float(metrics.gradient_norm)
        if math.isfinite(loss) and math.isfinite(gradient_norm):
            return metrics
        newest = self.checkpoints.newest_step()
        where = 'none was written yet' if newest is None else f'that of step {newest}'
        rate = self.config.optimizer.learning_rate
        raise TrainingError(
            f'step {step}: loss = {loss}, gradient norm = {gradient_norm}: must be finite; the '
            f'last finite checkpoint in {self.workdir} is {where}; try, in a new workdir, a lower '
            f'optimizer.learning_rate (now {rate}) or a longer optimizer.warmup_epochs'
        )

    def training_row(self, step: int, meter: Meter) -> dict[str, Any]:
        """The means of the steps since the last row, for metrics.jsonl."""
        mean, speed = meter.close()
        mean['lambda'] = mean.pop('lam')
        attacked = self.parts.objective.uses_attack
        regularization = mean['robust_regularization']
        batch_size = self.config.optimizer.batch_size
        return {
            'kind': 'train',
            'step': step,
            'epoch': step / self.parts.steps_per_epoch,
            **mean,
            'adversarial_accuracy': mean['adversarial_accuracy'] if attacked else None,
            'risk_ratio': mean['natural_risk'] / regularization if regularization else None,
            'learning_rate': float(jnp.asarray(self.parts.schedule(step - 1))),
            'images_per_second': None if speed is None else speed * batch_size,
            'seconds': self.seconds(),
        }

    def is_validation(self, step: int) -> bool:
        epoch, rest = divmod(step, self.parts.steps_per_epoch)
        scheduled = rest == 0 and epoch % self.config.evaluation.every_epochs == 0
        return step > 0 and (scheduled or step == self.parts.total_steps)

    def validate(
        self, state: TrainState, step: int, progress: Progress, log: Logbook
    ) -> Progress:
        """Measure the network, log it, and keep it if it is the best so far.

        The best is the most robust one; without an adversary in training, the most accurate one.
        A signal ends it: the returned progress is then the one that came in.
        """
        split = self.config.evaluation.select_on
        data, plan = self.data(split), self.plan(split, self.config.evaluation.num_examples)
        started = time.perf_counter()
        with progress_bar('validation', 3 * len(plan.mask), leave=False) as bar:

            def on_batch() -> None:
                bar.update()
                if self.stop.signum:
                    raise Interrupted

            try:
                measured = evaluation.validate(
                    self.parts.measures, state.evaluated, self.evaluation_key, data, plan, on_batch
                )
            except Interrupted:
                return progress
        seconds = time.perf_counter() - started
        epoch = step / self.parts.steps_per_epoch
        row = {'kind': 'validation', 'step': step, 'epoch': epoch, **measured, 'seconds': seconds}
        log.write(row)
        progress = dataclasses.replace(progress, validated_step=step)
        score = measured[self.parts.selected_by]
        if score <= progress.best_score:
            return progress
        self.checkpoints.save_best(step, state.evaluated)
        return dataclasses.replace(progress, best_step=step, best_score=score)

    def measure(self, state: TrainState, progress: Progress) -> dict[str, Any]:
        """The best network on the test set, as summary.json; also writes examples.npz."""
        config, parts, settings = self.config, self.parts, self.config.evaluation
        try:
            variables = self.checkpoints.restore_best(progress.best_step, like=state.evaluated)
        except FileNotFoundError as error:
            raise TrainingError(f'the best network is gone: {error}; use a new workdir') from error
        plan = self.plan('test', settings.test_examples)
        # The curve's examples are among those behind the headline numbers.
        at_most = min(settings.curve_examples or plan.mask.sum(), plan.mask.sum())
        test_plan = evaluation.TestPlan(
            plan, settings.restarts, self.plan('test', int(at_most)), settings.curve_scales
        )
        common = (parts.measures, variables, self.evaluation_key, self.data('test'))
        with progress_bar('test', test_plan.num_batches) as bar:

            def on_batch() -> None:
                bar.update()
                self.leave_if_told(int(state.step))

            measured = evaluation.test(*common, test_plan, on_batch)
        write_npz(self.workdir / 'examples.npz', evaluation.adversarial_examples(*common, plan))
        natural, robust = (float(risk) for risk in recent_risks(state.war, int(state.step)))
        return {
            **measured,
            'natural_risk': natural,
            'robust_regularization': robust,
            'lambda': float(state.war.lam),
            'risk_ratio': natural / robust if robust else None,
            'epsilon': config.threat.epsilon,
            'norm': config.threat.norm,
            'split': 'test',
            'best_step': progress.best_step,
            'best_epoch': progress.best_step / parts.steps_per_epoch,
            'selected_on': settings.select_on,
            'selected_by': parts.selected_by,
            'seconds': self.seconds(),
        }

    def data(self, split: str) -> DeviceData:
        """'validation' or 'test' on the devices."""
        if split not in self.on_devices:
            self.on_devices[split] = DeviceData(self.parts.mesh, getattr(self.splits, split))
        return self.on_devices[split]

    def plan(self, split: str, at_most: int) -> Plan:
        """Batches of `at_most` examples (0: all) of 'validation' or 'test', balanced by class."""
        chosen = balanced_subset(getattr(self.splits, split).labels, at_most)
        plan = eval_plan(len(chosen), self.config.evaluation.batch_size)
        return Plan(chosen[plan.indices], plan.mask)

    def leave_if_told(self, step: int) -> None:
        if self.stop.signum:
            self.checkpoints.wait()
            print(f'\nStopped after step {step} with a checkpoint; run it again to go on.')
            raise SystemExit(128 + self.stop.signum)

"""One run over data and time: batches, clocks, signals, checkpoints.

    summary = Run(parts, splits, workdir, stop, Display())()    # again, after any interruption

workdir/ then holds metrics.jsonl, tensorboard/, checkpoints/, examples.npz and, with ntk.every,
probes/. Order, augmentation, noise and evaluation are functions of (seed, step, example), and the
checkpoints hold the rest, so a run that was killed and started again ends with the same bits as one
that was not.
"""

import dataclasses
import math
import time
from collections import deque
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from war_jax.config import to_dict
from war_jax.data.batches import Batch, BatchSource, Plan, eval_plan, train_plan
from war_jax.data.sources import Splits, balanced_subset
from war_jax.data.stream import AHEAD, ahead, placed
from war_jax.measures import network
from war_jax.processes import agree, is_first
from war_jax.records.console import Display, describe
from war_jax.records.files import write_npz
from war_jax.records.interrupt import Interrupted, Stop
from war_jax.records.logbook import Logbook
from war_jax.records.meter import Meter
from war_jax.records.probes import write_probe
from war_jax.records.profile import Profile
from war_jax.records.provenance import session
from war_jax.training import memory
from war_jax.training.build import Parts, extra_per_batch
from war_jax.training.checkpoint import Checkpoints, Progress, UnreadableError
from war_jax.training.overfitting import Accuracies, is_catastrophic, warning
from war_jax.training.state import TrainState
from war_jax.training.step import Metrics
from war_jax.training.war import WarState, recent_risks

# By how much the devices may be ahead of the loop: seconds of work, enough to keep them busy while
# the host does something else, few enough that a signal is answered soon, as is a loss that is not
# finite; and the least number of steps.
_SECONDS_AHEAD, _STEPS_AHEAD = 0.2, 2
_EVALUATION_STREAM = 2**31 - 1  # folded into the seed's key: no training step has this number


def steps_ahead(steps_per_second: float) -> int:
    """How many steps the devices may be ahead of the loop; 0 is a speed that is not known yet.

    Processes measure different speeds, but poll for signals by this number: all have to ask for it
    at the same step, and get the largest.
    """
    enough = max(_STEPS_AHEAD, math.ceil(_SECONDS_AHEAD * steps_per_second))
    return enough if jax.process_count() == 1 else int(agree(enough))


class TrainingError(RuntimeError):
    """Training cannot go on; the message is one line that says where and what to do."""

    exit_code = 1


class Run:
    """One run in its workdir: calling it trains, evaluates and returns the summary."""

    def __init__(self, parts: Parts, splits: Splits, workdir: Path, stop: Stop, display: Display):
        self.parts, self.config, self.splits = parts, parts.config, splits
        self.workdir, self.stop, self.display = workdir, stop, display
        self.checkpoints = Checkpoints(
            workdir / 'checkpoints', self.config.checkpoint.keep, display.say
        )
        seed_key = jax.random.key(self.config.seed)
        self.evaluation_key = jax.random.fold_in(seed_key, _EVALUATION_STREAM)
        self.started = time.perf_counter()
        self.placed: dict[str, BatchSource] = {}

    def __call__(self) -> dict[str, Any]:
        state, progress = self.parts.create_state(), Progress()
        self.probe(state, 0)  # also of a run that goes on with another ntk.every
        restored = self.checkpoints.restore(like=state)
        if restored is not None:
            state, progress = restored
            self.probe(state, int(state.step))
        self.display.say(self.parts.describe(self.splits))
        self.display.say(f'{self.workdir}: {self.parts.position(state)}')
        self.started -= progress.seconds
        settings = self.config.log
        try:
            with Logbook(
                self.workdir,
                step=int(state.step),
                tensorboard=settings.tensorboard,
                wandb=settings.wandb,
                config=to_dict(self.config),
            ) as log:
                log.write(session(int(state.step), self.parts.devices))
                state, progress = self.fit(state, progress, log)
            summary = self.measure(state, progress)
        except BaseException:
            with suppress(OSError):  # of a checkpoint, which is less than what ends the run
                self.checkpoints.close()
            raise
        self.checkpoints.close()
        return summary

    def seconds(self) -> float:
        """Wall time of this run, all its sessions up to their last checkpoints together."""
        return time.perf_counter() - self.started

    def fit(
        self, state: TrainState, progress: Progress, log: Logbook
    ) -> tuple[TrainState, Progress]:
        """From `state` to the last step, with logs, validations and checkpoints on the way."""
        parts, config = self.parts, self.config
        extra = () if self.splits.extra is None else (self.splits.extra,)
        placement = config.data.placement
        data = placed(parts.mesh, self.splits.train, *extra, placement=placement)
        key, rule, step = parts.key, parts.rule, int(state.step)
        meter, in_flight = Meter(progress.sums), _STEPS_AHEAD
        pending: deque[tuple[int, jax.Array]] = deque()

        def settle(at_most: int) -> None:
            while len(pending) > at_most:
                done, metrics = pending.popleft()
                fetched = Metrics(*jax.device_get(metrics))
                meter.add(self.checked(done, fetched)._asdict())

        if self.is_validation(step) and progress.validated_step < step:
            progress = self.validate(state, step, progress, log)  # it was interrupted
            self.leave_if_told(step)  # interrupted again: this state is on disk already
        if step < parts.total_steps:
            self.compile_step(state, data)
        # Behind the step that compiles, and one more.
        traced = Profile(self.workdir / 'profile', step + 3, config.log.profile_steps)
        bar_of_steps = self.display.bar('train', parts.total_steps, initial=step)
        with traced as profile, bar_of_steps as bar, closing(self.batches(step, data)) as batches:
            for batch in batches:
                profile.before(step + 1, lambda: settle(0))
                state, metrics = parts.step(state, key, rule, batch)
                step += 1
                pending.append((step, metrics))
                settle(in_flight)
                bar.update()
                end_of_epoch = step % parts.steps_per_epoch == 0
                if step % config.log.every_steps == 0 or end_of_epoch:
                    settle(0)
                    row = self.training_row(step, meter, state.war)
                    log.write(row)
                    trained = row['adversarial_accuracy'] or 0.0
                    progress = dataclasses.replace(progress, trained_score=trained)
                    bar.set_postfix_str(describe(row))
                    rate = (row['images_per_second'] or 0) / config.optimizer.batch_size
                    in_flight = steps_ahead(rate)
                if self.is_probe(step):
                    settle(0)
                    self.probe(state, step)
                    meter.pause()
                if self.is_validation(step):
                    settle(0)
                    progress = self.validate(state, step, progress, log)
                    meter.pause()
                if self.is_checkpoint(step) or self.stop.poll(in_flight):
                    settle(0)  # no state is written before its loss is known to be finite
                    progress = dataclasses.replace(
                        progress, sums=meter.sums, seconds=self.seconds()
                    )
                    self.checkpoints.save(state, progress)
                    self.leave_if_told(step)
        return state, progress

    def compile_step(self, state: TrainState, data: BatchSource) -> None:
        """Says what memory it takes, before: an estimate, should it not fit; and after."""
        parts, batch_size = self.parts, self.config.optimizer.batch_size
        self.display.say(memory.describe_estimate(parts, self.splits))
        batch = data.batch(np.zeros(batch_size, np.int32), np.ones(batch_size, bool))
        # The first step takes what is compiled here out of JAX's cache.
        compiled = parts.step.lower(state, parts.key, parts.rule, batch).compile()
        self.display.say(memory.describe_plan(compiled))

    def batches(self, step: int, data: BatchSource) -> Generator[Batch, None, None]:
        """That of every step after the first `step` ones, until the last epoch's end."""
        batches = self.planned(step, data)
        return ahead(batches, AHEAD) if self.config.data.placement == 'host' else batches

    def planned(self, step: int, data: BatchSource) -> Generator[Batch, None, None]:
        """The same, each made when it is asked for."""
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
            yield from data.batches(plan, done=max(step - epoch * steps_per_epoch, 0))

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

    def training_row(self, step: int, meter: Meter, war: WarState) -> dict[str, Any]:
        """The means of the steps since the last row, for metrics.jsonl."""
        natural, robust = float(war.natural_ema), float(war.robust_ema)
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
            'averaged_risk_ratio': natural / robust if robust else None,
            'learning_rate': float(jnp.asarray(self.parts.schedule(step - 1))),
            'images_per_second': None if speed is None else speed * batch_size,
            'seconds': self.seconds(),
        }

    def is_validation(self, step: int) -> bool:
        epoch, rest = divmod(step, self.parts.steps_per_epoch)
        scheduled = rest == 0 and epoch % self.config.evaluation.every_epochs == 0
        return step > 0 and (scheduled or step == self.parts.total_steps)

    def is_checkpoint(self, step: int) -> bool:
        """A validated step is one too: what the best network was is not to be forgotten."""
        settings, (epoch, rest) = self.config.checkpoint, divmod(step, self.parts.steps_per_epoch)
        end = rest == 0 and epoch % settings.every_epochs == 0
        every = settings.every_steps
        return end or (every > 0 and step % every == 0) or self.is_validation(step)

    def is_probe(self, step: int) -> bool:
        every = self.config.ntk.every
        return every > 0 and (step % every == 0 or step == self.parts.total_steps)

    def probe(self, state: TrainState, step: int) -> None:
        """Keep the network that is being trained, if this step is one of the chosen ones."""
        if self.is_probe(step) and is_first():
            write_probe(self.workdir, step, state.variables)

    def validate(self, state: TrainState, step: int, progress: Progress, log: Logbook) -> Progress:
        """Measure the network, log it, and keep it if it is the best so far.

        The best is the most robust one; without an adversary in training, the most accurate one.
        A signal ends it: the returned progress is then the one that came in.
        """
        split = self.config.evaluation.select_on
        data, plan = self.data(split), self.plan(split, self.config.evaluation.num_examples)
        started = time.perf_counter()
        with self.display.bar('validation', 3 * len(plan.mask), leave=False) as bar:

            def on_batch() -> None:
                bar.update()
                if self.stop.poll():
                    raise Interrupted

            try:
                measured = network.validate(
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
            return self.watch(step, score, progress, log)
        self.checkpoints.save_best(step, state.evaluated)
        return dataclasses.replace(
            progress,
            best_step=step,
            best_score=score,
            best_trained_score=progress.trained_score,
            overfitted=False,
        )

    def watch(self, step: int, score: float, progress: Progress, log: Logbook) -> Progress:
        """Warn, once each time, of a network that is robust against training's attack alone."""
        best = Accuracies(progress.best_score, progress.best_trained_score)
        now = Accuracies(score, progress.trained_score)
        overfitted = self.parts.objective.uses_attack and is_catastrophic(best, now)
        if overfitted and not progress.overfitted:
            text = warning(step, progress.best_step, best, now)
            self.display.say(text)
            epoch = step / self.parts.steps_per_epoch
            log.write({'kind': 'warning', 'step': step, 'epoch': epoch, 'text': text})
        return dataclasses.replace(progress, overfitted=overfitted)

    def measure(self, state: TrainState, progress: Progress) -> dict[str, Any]:
        """The best network on the test set, as summary.json; also writes examples.npz.

        Under the headline's attack alone, 'train' is of the same network on training images, as
        they are and as many of them, and 'last' of the network that training ended with.
        """
        config, parts, settings = self.config, self.parts, self.config.evaluation
        try:
            variables = self.checkpoints.restore_best(progress.best_step, like=state.evaluated)
        except UnreadableError as error:
            raise TrainingError(f'the best network is gone: {error}; use a new workdir') from error
        plan = self.plan('test', settings.test_examples)
        # The curve's examples are among those behind the headline numbers.
        at_most = min(settings.curve_examples or plan.mask.sum(), plan.mask.sum())
        test_plan = network.TestPlan(
            plan, settings.restarts, self.plan('test', int(at_most)), settings.curve_scales
        )
        common = (parts.measures, variables, self.evaluation_key, self.data('test'))
        compared = {'train': (variables, 'train', self.plan('train', int(plan.mask.sum())))}
        if progress.best_step < int(state.step):
            compared['last'] = (state.evaluated, 'test', plan)
        batches = settings.restarts * sum(len(on.mask) for _, _, on in compared.values())
        with self.display.bar('test', test_plan.num_batches + batches) as bar:

            def on_batch() -> None:
                bar.update()
                self.leave_if_told(int(state.step))

            measured = network.test(*common, test_plan, on_batch)
            others = {
                name: network.headline(
                    parts.measures, weights, self.evaluation_key, self.data(split), on,
                    settings.restarts, on_batch,
                )
                for name, (weights, split, on) in compared.items()
            }  # fmt: skip
        examples = network.adversarial_examples(*common, plan)
        if is_first():
            write_npz(self.workdir / 'examples.npz', examples)
        rule = parts.rule
        recent = recent_risks(state.war, float(rule.decay), int(state.step))
        natural, robust = (float(risk) for risk in recent)
        same = {name: measured[name] for name in (*network.RATES, 'num_examples')}
        return {
            **measured,
            'last': same,  # where the last network is the best one
            **others,
            'natural_risk': natural,
            'robust_regularization': robust,
            'lambda': float(state.war.lam),
            'lambda_start': float(rule.lam_start),
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

    def data(self, split: str) -> BatchSource:
        """'train' (without the extra images), 'validation' or 'test', where data.placement says."""
        if split not in self.placed:
            self.placed[split] = placed(
                self.parts.mesh,
                getattr(self.splits, split),
                placement=self.config.data.placement,
            )
        return self.placed[split]

    def plan(self, split: str, at_most: int) -> Plan:
        """Batches of `at_most` examples (0: all) of one split, balanced by class."""
        chosen = balanced_subset(getattr(self.splits, split).labels, at_most)
        plan = eval_plan(len(chosen), self.config.evaluation.batch_size)
        return Plan(chosen[plan.indices], plan.mask)

    def leave_if_told(self, step: int) -> None:
        if signum := self.stop.poll():
            self.checkpoints.wait()
            self.display.say(f'Stopped after step {step} with a checkpoint; run it again to go on.')
            raise SystemExit(128 + signum)

"""What a run shows while it works: bars on a terminal, a line now and then in a log file.

    with progress_bar('train', total=1000, initial=0) as bar:
        bar.update()
        bar.set_postfix_str(describe(row))
"""

import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from tqdm import tqdm

from war_jax.processes import is_first

SECONDS_BETWEEN_LINES = 30.0
SMOKE_SENTENCE = 'This was a smoke run: it shows that every part works; its numbers mean nothing.'


class LogBar:
    """Stands in for a tqdm bar where stderr is a file: whole lines, no cursor movements.

    Writes at most every `SECONDS_BETWEEN_LINES`, and once more at its end if `leave`:

        train 1200/2298 (52 %), 10:23 left, λ 6  natural 0.412  robust 0.0832  310 images/s
    """

    def __init__(self, name: str, total: int, initial: int = 0, leave: bool = True):
        self._name, self._total, self._initial, self._leave = name, total, initial, leave
        self._done = initial
        self._postfix = ''
        self._started = self._written = time.monotonic()

    def update(self, n: int = 1) -> None:
        self._done += n
        if time.monotonic() - self._written >= SECONDS_BETWEEN_LINES:
            self._write()

    def set_postfix_str(self, s: str) -> None:
        """What the next lines end with."""
        self._postfix = s

    def __enter__(self) -> 'LogBar':
        return self

    def __exit__(self, *_: object) -> None:
        if self._leave:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        share = self._done / self._total if self._total else 1.0
        parts = [f'{self._name} {self._done}/{self._total} ({share:.0%})']
        here, missing = self._done - self._initial, self._total - self._done
        if here and missing:
            seconds = (self._written - self._started) / here * missing
            parts.append(f'{tqdm.format_interval(seconds)} left')
        print(', '.join([*parts, *filter(None, [self._postfix])]), file=sys.stderr, flush=True)


def progress_bar(
    name: str, total: int, initial: int = 0, leave: bool = True
) -> 'tqdm[Any] | LogBar':
    """A bar with rate and time left, for use in `with`; `leave`: it stays when it is done."""
    if is_first() and not sys.stderr.isatty():
        return LogBar(name, total, initial, leave)
    return tqdm(
        disable=not is_first(),  # of several processes, one shows what all are doing
        desc=name,
        total=total,
        initial=initial,
        leave=leave,
        mininterval=0.2,
        dynamic_ncols=True,
    )


def describe(row: Mapping[str, Any]) -> str:
    """One line of a training row of metrics.jsonl."""
    speed = row['images_per_second']
    return (
        f'λ {row["lambda"]:.3g}  natural {row["natural_risk"]:.3f}  '
        f'robust {row["robust_regularization"]:.4f}  '
        f'{"-" if speed is None else format(speed, ".0f")} images/s'
    )


def describe_accuracies(values: Mapping[str, Any]) -> str:
    return (
        f'natural {values["natural_accuracy"]:.2%}  robust {values["robust_accuracy"]:.2%}  '
        f'stability {values["perturbation_stability"]:.2%}'
    )


def smoke_sentence(config: Mapping[str, Any]) -> str:
    """What is to be said of the numbers of a smoke run; '' of any other.

    `config`: as `war_jax.config.to_dict` gives it or a config.json has it; old ones lack the key.
    """
    return SMOKE_SENTENCE if config.get('smoke') else ''


class Display:
    """Where a run shows what it does: on the terminal. A study shows many runs at once instead."""

    def say(self, text: str) -> None:
        print(text)

    def bar(
        self, name: str, total: int, initial: int = 0, leave: bool = True
    ) -> 'tqdm[Any] | LogBar':
        return progress_bar(name, total, initial, leave)


class QuietDisplay(Display):
    """Of a run whose progress something else shows."""

    def say(self, text: str) -> None:
        del text

    def bar(self, name: str, total: int, initial: int = 0, leave: bool = True) -> Any:
        del name, total, initial, leave
        return nullcontext(NoBar())


class NoBar:
    """What is told to it goes nowhere."""

    def update(self, n: int = 1) -> None:
        del n

    def set_postfix_str(self, s: str) -> None:
        del s

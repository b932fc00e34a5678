"""What a run shows while it works.

    with progress_bar('train', total=1000, initial=0) as bar:
        bar.update()
        bar.set_postfix_str(describe(row))
"""

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm


def progress_bar(name: str, total: int, initial: int = 0, leave: bool = True) -> tqdm:
    """A bar with rate and time left; in a log file a line every half minute, not every change."""
    return tqdm(
        desc=name,
        total=total,
        initial=initial,
        leave=leave,
        mininterval=0.2 if sys.stderr.isatty() else 30,
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

"""Two files of a benchmark side by side: what has become faster or slower.

    python -m benchmarks.compare before.json runs/bench/train_step.json

Rows belong together if network, batch and precision are the same. Speeds of one framework from two
runs differ with the machine's mood by 5 to 10 %; the change of the ratio to the baseline, which
both files measured in their own run, says more.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.timing import QUIET

KEYS = ('network', 'batch', 'precision')
Key = tuple[Any, ...]


def read(path: Path) -> dict[Key, dict[str, Any]]:
    """The rows by what they measured. Raises ValueError, one line, for another kind of file."""
    try:
        rows = json.loads(path.read_text('utf-8'))['rows']
        if any(not float(row['images_per_second']) * float(row['ratio']) > 0 for row in rows):
            raise ValueError('speeds and ratios must be positive')
        return {tuple(row.get(key, '') for key in KEYS): row for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{path}: no results of a benchmark ({error!r})') from error


def lines(before: dict[Key, dict[str, Any]], after: dict[Key, dict[str, Any]]) -> list[str]:
    """A table of what is in both, and a line for what is in one."""
    head = f'{"network":<9}{"batch":>6} {"precision":<10}'
    text = [f'{head}{"images/s":>18} {"change":>8} {"ratio to baseline":>18} {"change":>8}']
    for key in before.keys() & after.keys():
        old, new = before[key], after[key]
        speeds, ratios = ((old[name], new[name]) for name in ('images_per_second', 'ratio'))
        busy = max(row.get('others_share') or 0.0 for row in (old, new)) > QUIET
        notes = '  busy machine' if busy else ''
        if old.get('baseline_targets') != new.get('baseline_targets'):
            notes += '  another baseline'
        network, batch, precision = key
        text.append(
            f'{network:<9}{batch:>6} {precision:<10}{speeds[0]:>9.1f}{speeds[1]:>9.1f}'
            f' {speeds[1] / speeds[0] - 1:>+8.1%} {ratios[0]:>9.2f}{ratios[1]:>9.2f}'
            f' {ratios[1] / ratios[0] - 1:>+8.1%}{notes}'
        )
    text[1:] = sorted(text[1:])
    for name, rows, others in (('before', before, after), ('after', after, before)):
        text += [f'only {name}: {" ".join(map(str, key))}' for key in rows if key not in others]
    return text


def main() -> None:
    parser = argparse.ArgumentParser('python -m benchmarks.compare', description=__doc__)
    parser.add_argument('before', type=Path)
    parser.add_argument('after', type=Path)
    flags = parser.parse_args()
    try:
        print('\n'.join(lines(read(flags.before), read(flags.after))))
    except ValueError as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()

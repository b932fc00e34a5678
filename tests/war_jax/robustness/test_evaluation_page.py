"""What an evaluation's page says of doubts. Oracle: a result made by hand."""

from pathlib import Path
from typing import Any

import pytest

from war_jax.robustness.page import write_page

ORIGIN = {
    'data': 'Made up.', 'num_devices': 1, 'device': 'cpu', 'commit': 'abc', 'versions': {},
    'command': 'python -m x',
}  # fmt: skip


@pytest.mark.parametrize('doubts', [[], ['its gradients are zero']])
def test_the_page_says_whether_there_are_signs_of_masked_gradients(
    tmp_path: Path, doubts: list[str]
):
    rates = {'natural_accuracy': 0.9, 'robust_accuracy': 0.5}
    result: dict[str, Any] = {
        **rates, 'intervals': {key: (0.4, 0.95) for key in rates}, 'num_examples': 10,
        'norm': 'linf', 'epsilon': 0.1, 'attacks': [], 'doubts': doubts, 'curve': None,
        'settings': {'network': 'net', 'seed': 0}, 'origin': ORIGIN,
    }  # fmt: skip
    write_page(tmp_path, result)
    blocks = (tmp_path / 'evaluation.md').read_text(encoding='utf-8').split('\n\n')
    assert ('No sign of masked gradients was found.' in blocks) == (not doubts)
    assert ('**Doubt:** its gradients are zero.' in blocks) == bool(doubts)

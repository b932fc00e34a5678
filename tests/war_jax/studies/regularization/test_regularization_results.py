"""Samples over seeds and the file that keeps them, from planted networks."""

from pathlib import Path

import pytest

from tests.war_jax.studies.regularization.planted import networks
from war_jax.records.files import ReportError
from war_jax.studies.regularization.measure import SCALARS
from war_jax.studies.regularization.results import (
    axes,
    read_networks,
    samples,
    write_networks,
)


def test_what_else_differs_is_averaged_and_must_be_complete():
    full = networks((0.0, 0.1), seeds=(0, 1), lams=(1.0, 3.0))
    assert axes(full) == ['epsilon', 'lam']
    for network in full:
        network.final['margin'] = 10 * network.cell.lam + network.cell.epsilon
    assert samples(full, 'epsilon', 'final', 'margin') == {
        0.0: {0: 20.0, 1: 20.0}, 0.1: {0: pytest.approx(20.1), 1: pytest.approx(20.1)},
    }  # fmt: skip
    assert samples(full, 'lam', 'matched', 'std', 'stem') == {
        1.0: {0: pytest.approx(1.95), 1: pytest.approx(1.95)},
        3.0: {0: pytest.approx(1.95), 1: pytest.approx(1.95)},
    }
    incomplete = [n for n in full if (n.cell.epsilon, n.cell.lam, n.cell.seed) != (0.1, 3.0, 1)]
    assert samples(incomplete, 'epsilon', 'final', 'margin') == {
        0.0: {0: 20.0, 1: 20.0}, 0.1: {0: pytest.approx(20.1)},
    }  # fmt: skip
    full[0].final['distance'] = None  # no boundary found for any image
    assert samples(full, 'epsilon', 'final', 'distance')[0.0].keys() == {1}


def test_rows_hold_everything_but_the_images(tmp_path: Path):
    written = networks(lams=(1.0, 3.0))
    written[0].final['distance'] = None
    write_networks(tmp_path, written)
    kept = read_networks(tmp_path)
    assert [network.cell for network in kept] == [network.cell for network in written]
    for ours, theirs in zip(kept, written, strict=True):
        assert ours.matched_loss == 0.7
        for when in ('final', 'matched'):
            row, full = getattr(ours, when), getattr(theirs, when)
            assert all(row[key] == full[key] for key in (*SCALARS, 'layers'))
    assert 'margins' not in kept[0].final


def test_other_files_are_refused(tmp_path: Path):
    with pytest.raises(ReportError, match=r'missing rows\.csv'):
        read_networks(tmp_path)
    (tmp_path / 'rows.csv').write_text('folder,name,when\nmeasured,a,"""final"""\n')
    with pytest.raises(ReportError, match=r'rows\.csv: no final, matched'):
        read_networks(tmp_path)
    lines = [f'measured,a,"""{when}"""\n' for when in ('final', 'matched')]
    (tmp_path / 'rows.csv').write_text(''.join(['folder,name,when\n', *lines]))
    with pytest.raises(ReportError, match=r'rows\.csv: no epsilon, width'):
        read_networks(tmp_path)

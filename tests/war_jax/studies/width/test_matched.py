"""Accuracies at the same training loss. Oracle: a crossing worked by hand."""

import math
from pathlib import Path

import pytest

from tests.war_jax.studies.width.planted import make_study
from war_jax.studies.width.study import read_study


def test_the_wider_network_is_taken_where_the_thinner_one_ends(tmp_path: Path) -> None:
    """Losses fall from 2 to 0.5 (k = 1) and to 0.5 / sqrt(2) (k = 2), accuracies rise by 10 points.

    So k = 2 comes down to 0.5 after log 4 / log (4 sqrt 2) = 0.8 of the way.
    """
    study = read_study(make_study(
        tmp_path, widths=(1.0, 2.0), lams=(3.0,), targets=('constant',),
        validation_robust_accuracy=lambda k, lam, seed: 0.6,
        skip=lambda method, k, lam, seed: (method, k, seed) == ('fixed', 2.0, 2),
    ))  # fmt: skip
    found = {(row['method'], row['widen_factor'], row['seed']): row for row in study.rows}
    assert found['fixed', 1.0, 0]['matched_loss'] == found['fixed', 2.0, 0]['matched_loss'] == 0.5
    assert found['fixed', 1.0, 1]['robust_accuracy_matched'] == pytest.approx(0.6)
    share = math.log(4.0) / math.log(4.0 * math.sqrt(2.0))
    assert share == pytest.approx(0.8)
    assert found['fixed', 2.0, 1]['robust_accuracy_matched'] == pytest.approx(0.5 + 0.1 * share)
    # Seed 2 has no wide run, and with WAR lambda is another one all the time.
    for key in (('fixed', 1.0, 2), ('constant', 2.0, 0)):
        assert found[key]['matched_loss'] is None

"""What `evaluate` refuses, with what to pass instead; what it accepts, against closed forms.

The network is linear: an image is robust if and only if the distance of its nearest boundary,
known in closed form (`linear.nearest`), is above epsilon.
"""

import functools
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from tests.war_jax.robustness import linear
from war_jax.attacks.threat import ThreatModel
from war_jax.config_rules import ConfigError
from war_jax.robustness.functions import evaluate
from war_jax.robustness.inputs import in_box, whole_labels
from war_jax.robustness.progress import CURVE_SCALES

COUNT = 24
X = linear.images(COUNT)
Y = linear.predictions(5, X)
EPSILON = linear.median_distance('linf', COUNT)
ROBUST = float((linear.nearest(5, X, 'linf') > EPSILON).mean())


def network(x: Any) -> Any:
    return linear.classify(linear.params(), x)


def run(f: Any = network, x: Any = X, y: Any = Y, attack: str = 'pgd9', **options: Any) -> Any:
    threat = ThreatModel('linf', EPSILON)
    return evaluate(f, x, y, threat, attack, batch_size=8, **options)


def test_the_right_answer_with_the_curve_that_finds_masked_gradients():
    result = run(attack='apgd-t')
    assert result['robust_accuracy'] == pytest.approx(ROBUST) and 0 < ROBUST < 1
    assert result['images'] == 'floats in [0, 1]' and result['doubts'] == []
    assert result['curve']['num_examples'] == COUNT and result['curve']['robust'][-1] == 0
    assert len(CURVE_SCALES) > 1


def test_masked_gradients_are_found_by_default():
    """Steps have no slope, so that attacks by gradients fail at every radius of the curve."""
    result = run(lambda x: network(jnp.round(x * 20) / 20), y=linear.predictions(5, X))
    assert any('it should fall to 0' in doubt for doubt in result['doubts'])


def test_bytes_are_scaled_and_said_to_be():
    pixels = np.round(X * 255).astype(np.uint8)
    floats = pixels.astype(np.float32) / np.float32(255)
    labels = linear.predictions(5, floats)
    of_bytes, of_floats = (run(x=x, y=labels, curve_examples=0) for x in (pixels, floats))
    assert of_bytes.pop('images') == 'uint8, divided by 255'
    assert of_floats.pop('images') == 'floats in [0, 1]'
    for result in (of_bytes, of_floats):
        result['attacks'][0].pop('seconds')
    assert of_bytes == of_floats and of_bytes['natural_accuracy'] == 1


@pytest.mark.parametrize('dtype', ['float16', 'float64', ml_dtypes.bfloat16])
def test_images_of_other_float_types(dtype):
    given = np.array([0, 0.25, 1]).astype(dtype).reshape(1, 3, 1, 1)
    values = in_box(given).values
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values.ravel(), np.array([0, 0.25, 1], 'float32'))


FIRST = np.transpose(X, (0, 3, 1, 2))[:, :1]  # (n, 1, h, w)
NAN = np.where(X == X.max(), np.nan, X)
STD = (X - 0.5) / 0.05
EACH = np.arange(COUNT) % 5


@pytest.mark.parametrize(
    ('images', 'message'),
    [
        (X * 255, r'range of images = \(.*\): must be in \[0, 1\]: pass images / 255 with epsilon'),
        (X * 2 - 1, r'pass \(images \+ 1\) / 2 .* inside f: lambda x: f\(2 \* x - 1\)'),
        (STD, r'look standardised: pass images \* std \+ mean .*lambda x: f\(\(x - mean\) / std\)'),
        (X + 0.4002, r'pass numpy.clip\(images, 0, 1\)'),
        (NAN, 'without NaN or infinity'),
        (np.where(X == X.max(), np.inf, X), 'without NaN or infinity'),
        ((X * 255).astype(int), "images.dtype = 'int64': must be uint8, or floats"),
        (X > 0.5, "images.dtype = 'bool': must be uint8"),
        (FIRST, r'channels first: pass numpy.transpose\(images, \(0, 2, 3, 1\)\)'),
        (FIRST.repeat(3, 1), r'images.shape = \(24, 3, 8, 8\): .* channels first'),
        (X[..., 0], r'images.shape = \(24, 8, 8\): .* pass images\[..., None\]'),
        (X.reshape(COUNT, -1), r'images.shape = \(24, 128\): must be \(n, h, w, c\)'),
        (X[:0], r'images.shape = \(0, 8, 8, 2\): must be .* n at least 1'),
    ],
)
def test_refuses_images(images, message):
    with pytest.raises(ConfigError, match=message) as caught:
        run(x=images)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('labels', 'message'),
    [
        (EACH + 1, r'range of labels = \(1, 5\): must be in 0..4; these count from 1'),
        (np.where(EACH == 3, 7, EACH), r'range of labels = \(0, 7\): must be in 0..4, .* 5 out'),
        (EACH - 1, r'range of labels = \(-1, 3\): must be in 0..4.*leave unlabelled images out'),
        (EACH + 0.7, r'labels = \d.7: must be whole numbers'),
        (np.where(EACH == 3, np.nan, EACH), 'labels = nan: must be whole numbers'),
        (EACH[:, None], r'labels.shape = \(24, 1\): .* pass labels\[:, 0\]'),
        (np.eye(5)[EACH], r'labels.shape = \(24, 5\): .* one-hot: pass labels.argmax\(-1\)'),
        (EACH[:-1], r'labels.shape = \(23,\): must be \(n,\).*nearest: \(24,\)'),
        (np.array([str(label) for label in EACH]), r"labels.dtype = '<U1': must be whole numbers"),
    ],
)
def test_refuses_labels(labels, message):
    with pytest.raises(ConfigError, match=message) as caught:
        run(y=labels)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('dtype', [np.uint8, np.int64, np.float32, np.float64])
def test_whole_labels_of_any_type(dtype):
    labels = whole_labels(EACH.astype(dtype), COUNT, 5)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, EACH)


@pytest.mark.parametrize(
    ('f', 'message'),
    [
        (lambda x: network(x)[:, :1], r'at least 2 classes; .*jax.numpy.pad\(f\(x\), '),
        (lambda x: network(x)[:, 0], r'at least 2 classes; .*jax.numpy.pad\(f\(x\)\[:, None\], '),
        (lambda x: network(x)[:, None], r'shape \(\d, 1, 5\): must be logits \(b, classes\)'),
        (lambda x: jnp.round(network(x)).astype('int32'), 'int32: must be floats'),
        (lambda x: (network(x), x), "= 'tuple': must be one array of logits"),
    ],
)
@pytest.mark.parametrize('attack', ['pgd2', 'autoattack'])
def test_refuses_outputs(f, message, attack):
    with pytest.raises(ConfigError, match=message) as caught:
        run(f, attack=attack)
    assert '\n' not in str(caught.value)


def test_the_advice_for_one_output_is_the_same_classifier():
    def one_output(x):
        return network(x)[:, 4:] - network(x)[:, 3:4]

    labels = (np.asarray(one_output(X)) > 0).astype(int)[:, 0]
    result = run(lambda x: jnp.pad(one_output(x), ((0, 0), (1, 0))), y=labels, curve_examples=0)
    assert result['natural_accuracy'] == 1 and 0 < labels.mean() < 1


@functools.cache
def without_mask(attack: str) -> float:
    return run(attack=attack, curve_examples=0)['robust_accuracy']


@pytest.mark.parametrize(
    ('mask', 'attack'),
    [(-1e9, 'apgd-ce'), *((-np.inf, attack) for attack in ('apgd-ce', 'pgd9', 'apgd-t', 'fab-t'))],
)
def test_a_masked_class_changes_nothing(mask, attack):
    """Oracle: the same network without that class; or, where all classes are tried, closed form."""

    def masked(x):
        return jnp.concatenate([network(x), jnp.full((len(x), 1), mask)], 1)

    result = run(masked, attack=attack, curve_examples=0)
    assert result['natural_accuracy'] == 1.0 and result['doubts'] == []
    expected = ROBUST if attack.endswith('-t') else without_mask(attack)
    assert result['robust_accuracy'] == pytest.approx(expected)

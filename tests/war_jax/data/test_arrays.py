"""Oracle: arrays that break exactly one rule each, and the key, value and rule the error names."""

import pickle

import numpy as np
import pytest

from war_jax.data.arrays import DataError, Dataset, check, count_classes, read_npz

GOOD = {'x': np.zeros((4, 8, 8, 3), np.uint8), 'y': np.array([0, 1, 2, 1])}
LIKE = Dataset(GOOD['x'], GOOD['y'])
HALF = np.full((4, 8, 8, 3), 0.5)


def message_of(call):
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert '\n' not in message
    assert message.startswith('here: ')
    return message


def with_pixel(value):
    images = HALF.copy()
    images[1, 2, 3, 0] = value
    return images


def test_good_arrays_pass_unchanged():
    dataset = check('here', GOOD, 'x', 'y', num_classes=3, like=LIKE)
    assert dataset.images is GOOD['x']
    assert dataset.labels.tolist() == [0, 1, 2, 1]
    assert dataset.labels.dtype == np.int32


def test_take_keeps_images_with_their_labels():
    numbered = Dataset(np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1), np.arange(5, 10))
    taken = numbered.take(np.array([3, 0, 4]))
    assert taken.images.ravel().tolist() == [0, 3, 4]
    assert taken.labels.tolist() == [5, 8, 9]


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_floats_in_the_closed_unit_interval_become_float32(dtype):
    images = np.linspace(0, 1, 4 * 64, dtype=dtype).reshape(4, 8, 8)
    dataset = check('here', {'x': images, 'y': GOOD['y']}, 'x', 'y')
    assert dataset.images.dtype == np.float32
    np.testing.assert_array_equal(dataset.images[..., 0], images.astype(np.float32))


@pytest.mark.parametrize(
    ('changes', 'fragments'),
    [
        ({'x': np.zeros((4, 64))}, ('x has shape (4, 64)', '(n, h, w, c)')),
        ({'x': np.zeros((4, 3, 8, 8), np.uint8)}, ('x has (n, h, w, c) = (4, 3, 8, 8)', '8')),
        ({'x': np.zeros((4, 8, 7), np.uint8)}, ('(4, 8, 7, 1)', 'at least 8')),
        ({'x': np.zeros((4, 8, 8, 0), np.uint8)}, ('(4, 8, 8, 0)', 'at least 1')),
        ({'x': GOOD['x'][:0], 'y': GOOD['y'][:0]}, ('(0, 8, 8, 3)', 'at least 1')),
        ({'x': GOOD['x'].astype(np.int64)}, ('x is int64', 'uint8')),
        ({'x': GOOD['x'].astype(bool)}, ('x is bool', 'uint8')),
        ({'x': with_pixel(255)}, ('0.5..255', '[0, 1]')),
        ({'x': with_pixel(-0.25)}, ('-0.25..0.5', '[0, 1]')),
        ({'x': with_pixel(np.nan)}, ('nan', 'NaN')),
        ({'x': with_pixel(np.inf)}, ('inf', '[0, 1]')),
        ({'y': GOOD['y'][:3]}, ('x has 4', 'y 3', 'equally many')),
        ({'y': GOOD['y'][:, None]}, ('y has shape (4, 1)', '(n,)')),
        ({'y': GOOD['y'].astype(float)}, ('y is float64', 'integer')),
        ({'y': np.array([0, -1, 1, 2])}, ('y has values in -1..2', '0..2')),
        ({'y': np.array([0, 3, 1, 2])}, ('y has values in 0..3', '0..2')),
        ({'x': np.zeros((4, 8, 9, 3), np.uint8)}, ('(8, 9, 3)', '(8, 8, 3)')),
        ({'x': HALF}, ('x is float32', 'must be uint8')),
    ],
)
def test_each_rule_is_enforced(changes, fragments):
    message = message_of(lambda: check('here', GOOD | changes, 'x', 'y', 3, LIKE))
    assert all(fragment in message for fragment in fragments)


def test_labels_too_large_for_int32_are_refused_before_they_wrap():
    arrays = GOOD | {'y': np.array([0, 1, 2, 2**32])}
    assert '4294967296' in message_of(lambda: check('here', arrays, 'x', 'y'))


def test_count_classes():
    assert count_classes('here', 'y', np.array([2, 0, 1, 1])) == 3


@pytest.mark.parametrize(
    ('labels', 'text'), [([1, 2, 3], '1..3'), ([0, 2], '0..2'), ([0, 0], '1 distinct')]
)
def test_count_classes_refuses_gaps(labels, text):
    assert text in message_of(lambda: count_classes('here', 'y', np.array(labels)))


def test_read_npz_takes_the_first_complete_alternative(tmp_path):
    path = str(tmp_path / 'a.npz')
    np.savez(path, b=np.arange(3), c=np.arange(2), d=np.arange(1))
    arrays = read_npz('here', path, ('a', 'b'), ('c', 'b'), ('d',))
    assert {key: a.tolist() for key, a in arrays.items()} == {'c': [0, 1], 'b': [0, 1, 2]}
    message = message_of(lambda: read_npz('here', path, ('a', 'b'), ('e',)))
    assert 'b, c, d' in message
    assert 'a, b or e' in message


def test_read_npz_refuses_what_is_no_archive_of_numbers(tmp_path):
    path = tmp_path / 'a.npz'
    assert 'no file' in message_of(lambda: read_npz('here', str(path), ('a',)))
    assert 'no file' in message_of(lambda: read_npz('here', str(tmp_path), ('a',)))
    for content in (b'', pickle.dumps({'a': 1})):
        path.write_bytes(content)
        assert 'not an .npz' in message_of(lambda: read_npz('here', str(path), ('a',)))
    np.savez(path, a=np.array([{}, None], object))
    assert 'plain numbers' in message_of(lambda: read_npz('here', str(path), ('a',)))
    np.savez(path, a=np.arange(1000))
    content = bytearray(path.read_bytes())
    content[500] ^= 255
    path.write_bytes(content)
    assert 'CRC' in message_of(lambda: read_npz('here', str(path), ('a',)))

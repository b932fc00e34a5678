"""Kernels block by block, and kept in files. Oracles: the whole at once; a kernel that counts."""

import jax
import numpy as np
import pytest

from ntk.infinite import Kernel, blockwise, compute, fully_connected, wide_resnet
from tests.ntk.infinite.test_infinite import BOTH, cast, inputs, whole


@pytest.mark.parametrize('is_double', [False, True])
@pytest.mark.parametrize('block_size', [1, 4, 100])
def test_blocks_are_the_whole(is_double, block_size):
    x1, x2 = cast(is_double, *inputs(11, 6, 12))
    tolerance = 1e-5 if not is_double else 1e-12
    with jax.enable_x64(is_double):
        kernel = fully_connected(3)
        for other in (None, x2):
            expected = whole(kernel, x1, other)
            found = compute(kernel, x1, other, BOTH, block_size=block_size)
            for kind in BOTH:
                blocks = getattr(found, kind)
                assert isinstance(blocks, np.ndarray) and blocks.dtype == x1.dtype
                np.testing.assert_allclose(blocks, getattr(expected, kind), rtol=tolerance)
        symmetric = compute(kernel, x1, block_size=block_size)
        np.testing.assert_array_equal(symmetric, symmetric.T)


def test_blocks_of_a_wide_resnet():
    x1, x2 = cast(False, *inputs(3, 2, 4, 4, 1))
    kernel = wide_resnet(10)
    expected = whole(kernel, x1, x2).ntk
    np.testing.assert_allclose(compute(kernel, x1, x2, block_size=2), expected, rtol=1e-5)


class Recorder:
    """A kernel that counts: k = x1.x2, and the shapes that are compiled."""

    def __init__(self):
        self.shapes = []
        self.updates = 0

    def kernel(self, name: str = 'recorded') -> Kernel:
        return Kernel(name, False, self.function)

    def function(self, x1, x2, get):
        self.shapes.append((x1.shape, x2.shape))
        value = x1 @ x2.T
        return tuple(value for _ in get)

    def bar(self, name: str, total: int) -> 'Recorder':
        self.name, self.total = name, total
        return self

    def __enter__(self) -> 'Recorder':
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self) -> None:
        self.updates += 1


def test_one_program_and_half_of_the_blocks():
    recorder = Recorder()
    x = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)
    kernel = recorder.kernel('one program')
    compute(kernel, x, block_size=5, bar=recorder.bar, name='theta')
    assert recorder.shapes == [((5, 3), (5, 3))]  # 5 blocks of 5, of which two rows are padding
    assert (recorder.name, recorder.total, recorder.updates) == ('theta', 15, 15)
    compute(kernel, x, block_size=5)
    assert len(recorder.shapes) == 1
    compute(kernel, x, x[:2], block_size=20)
    assert recorder.shapes[1:] == [((12, 3), (2, 3))]


def test_kernels_with_rounding_that_is_not_symmetric_become_symmetric():
    kernel = Kernel('askew', False, lambda x1, x2, get: (x1 @ x2.T + 1e-6 * x1[:, :1],))
    x = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    found = compute(kernel, x, block_size=4)
    np.testing.assert_array_equal(found, found.T)
    upper = np.triu_indices(9)
    np.testing.assert_allclose(found[upper], (x @ x.T + 1e-6 * x[:, :1])[upper], rtol=1e-5)


def test_default_blocks_keep_memory_bounded():
    x = np.zeros((5000, 2), np.float32)
    recorder = Recorder()
    compute(recorder.kernel('default'), x)
    assert recorder.shapes == [((1000, 2), (1000, 2))]
    images = Kernel('images', True, recorder.function)
    assert blockwise._block_size(images, (9, 8, 8, 3)) == 16
    assert blockwise._block_size(images, (9, 32, 32, 3)) == 1
    assert blockwise._block_size(images, (9, 64, 64, 3)) == 1


@pytest.fixture
def computing_fails(monkeypatch):
    def fail() -> None:
        monkeypatch.delattr(blockwise, '_fill')

    return fail


def test_cache_returns_the_same_bits_without_computing(tmp_path, computing_fails):
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    first = compute(fully_connected(2), x, get=BOTH, cache=tmp_path, block_size=4)
    computing_fails()
    again = compute(fully_connected(2), x, get=BOTH, cache=tmp_path, block_size=3)
    for kind in BOTH:
        np.testing.assert_array_equal(getattr(again, kind), getattr(first, kind))
    assert [path.suffix for path in tmp_path.iterdir()] == ['.npz']


def test_cache_knows_what_a_kernel_depends_on(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    changed = x.copy()
    changed[3, 2] = np.nextafter(changed[3, 2], 2)
    compute(Recorder().kernel(), x, cache=tmp_path)
    calls = [
        (Recorder().kernel('another'), x, None, 'ntk'),
        (Recorder().kernel(), changed, None, 'ntk'),
        (Recorder().kernel(), x, x, 'ntk'),
        (Recorder().kernel(), x, None, 'nngp'),
        (Recorder().kernel(), x.reshape(3, 4), None, 'ntk'),
    ]
    for number, call in enumerate(calls, start=2):
        compute(*call, cache=tmp_path)
        assert len(list(tmp_path.iterdir())) == number
    with jax.enable_x64(True):
        compute(Recorder().kernel(), x, cache=tmp_path)  # computed in float64
        compute(Recorder().kernel(), x.astype(np.float64), cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == len(calls) + 3


@pytest.mark.parametrize('damage', ['empty', 'torn', 'bit', 'foreign', 'not an archive', 'array'])
def test_damaged_or_foreign_files_are_computed_again(tmp_path, computing_fails, damage):
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    first = compute(Recorder().kernel(), x, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == 'foreign':
        np.savez(path, ntk=first + 1, digest=np.array('0' * 64))
    elif damage == 'array':
        with path.open('wb') as file:
            np.save(file, first)
    else:
        torn = bytes(content)[: len(content) // 2]
        replacements = {'empty': b'', 'torn': torn, 'bit': bytes(content)}
        path.write_bytes(replacements.get(damage, b'no archive at all'))
    np.testing.assert_array_equal(compute(Recorder().kernel(), x, cache=tmp_path), first)
    computing_fails()  # the file is whole again
    np.testing.assert_array_equal(compute(Recorder().kernel(), x, cache=tmp_path), first)

"""What a run shows. Oracle: the text itself, on a clock that the test moves."""

import io
import time

import pytest
from tqdm import tqdm

from war_jax.records.console import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    return now


def test_a_log_file_gets_a_whole_line_now_and_then(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """100 steps in 400 s, one every 4 s: 900 more take an hour."""
    with progress_bar('train', total=2000, initial=1000) as bar:
        for step in range(100):
            clock[0] += 4.0
            bar.update()
            if step == 3:
                bar.set_postfix_str('λ 6')
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == 'train 1008/2000 (50%), 1:06:08 left, λ 6'
    assert lines[1].startswith('train 1016/2000 (51%), ')
    assert lines[-1] == 'train 1100/2000 (55%), 1:00:00 left, λ 6'
    assert len(lines) == 100 // 8 + 1  # every 32 s, and at the end


def test_the_end_is_told_once_and_has_no_time_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar('test', total=2) as bar:
        bar.update(2)
    assert capsys.readouterr().err == 'test 2/2 (100%)\n'


def test_an_inner_bar_that_is_quickly_done_writes_nothing(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar('validation', total=10, leave=False) as bar:
        for _ in range(10):
            clock[0] += 2.9
            bar.update()
    assert capsys.readouterr().err == ''


def test_nested_bars_write_neither_escapes_nor_carriage_returns(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        progress_bar('train', total=3) as outer,
        progress_bar('validation', total=3, leave=False) as inner,
    ):
        for _ in range(3):
            clock[0] += 31.0
            outer.update()
            inner.update()
    text = capsys.readouterr().err
    assert text.count('train ') == 4 and text.count('validation ') == 3
    assert '\r' not in text and '\x1b' not in text


def test_an_exception_is_not_hidden(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), progress_bar('train', total=4) as bar:
        bar.update()
        raise KeyboardInterrupt
    assert capsys.readouterr().err == 'train 1/4 (25%), 00:00 left\n'


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr('sys.stderr', terminal)
    with progress_bar('train', total=4) as bar:
        assert isinstance(bar, tqdm)
        bar.update()
        bar.set_postfix_str('λ 6')
    text = terminal.getvalue()
    assert '1/4' in text and 'λ 6' in text and '\r' in text

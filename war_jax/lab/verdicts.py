"""Claims and how they are decided: the only place where one becomes supported or contradicted.

    grows = claim('lipschitz', 'Lipschitzness grows with width', power(samples), ABOVE,
                  'power of m', how='widths 32, 64, 128.')
    grows.verdict, grows.effect, grows.interval, grows.rule
    write_verdicts(workdir / 'verdicts.json', [grows], provenance, command='python -m ...')
    for verdict in read_verdicts(workdir / 'verdicts.json'): print(verdict.verdict, verdict.rule)

A claim says that a number lies in a range. It is supported if the whole 95 % interval lies in the
range, contradicted if the whole interval lies outside, undecided otherwise, and always with fewer
than MIN_SEEDS seeds. What is not a number with an interval has a rule of its own below: trends of
ranks, shares of layers, one decision at each of several lambdas, ratios of costs. Each claim
carries its rule as a sentence. docs/verdicts.md has them all, and why.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from war_jax.lab.estimates import LEVEL, Estimate, Trend, holm
from war_jax.records.files import ReportError, read_file, read_json, write_json

WORDS = SUPPORTED, CONTRADICTED, UNDECIDED = 'supported', 'contradicted', 'undecided'
MIN_SEEDS = 3
# Points of accuracy, of 'as good as'.
MARGIN = 2.0
WHY_MARGIN = (
    f'A loss of less than {MARGIN:g} points counts as none: on 500 test images the standard error '
    'of an accuracy near 50 % is 2.2 points.'
)
CLEAR_RATIO = 1.1  # of run times: medians on a shared machine are no better than that


class Range(NamedTuple):
    low: float
    high: float

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f'above {_signed(self.low)}'
        if math.isinf(self.low):
            return f'below {_signed(self.high)}'
        return f'from {_signed(self.low)} to {_signed(self.high)}'


ABOVE, BELOW = Range(0.0, math.inf), Range(-math.inf, 0.0)


def near(value: float, tolerance: float) -> Range:
    return Range(value - tolerance, value + tolerance)


def no_worse(margin: float) -> Range:
    """Of 'as good as, within a margin': what counts as no loss. A loss of more contradicts it."""
    return Range(-margin, math.inf)


class Verdict(NamedTuple):
    word: str  # one of WORDS
    p_value: float | None  # the level at which it would only just be decided; None: not of a test
    where: str = ''  # 'λ = 1, 3', of what is decided at several places


@dataclass(frozen=True)
class Claim:
    """One claim, what was measured of it, and what follows."""

    name: str  # by which programs know it
    statement: str  # a sentence
    effect: float | None  # in `unit`; None if it could not be computed
    interval: tuple[float, float] | None  # of 95 %; infinite with one seed; None of a test of ranks
    unit: str
    num_seeds: int  # behind the effect
    verdict: str  # one of WORDS
    rule: str  # by which it was decided, a sentence
    how: str = ''  # what the effect was computed from
    where: str = ''
    p_value: float | None = None


def judge(effect: Estimate | None, supported: Range) -> Verdict:
    """Of the claim that a number lies in the range `supported`; what is outside contradicts it."""
    if effect is None or effect.num_seeds < MIN_SEEDS:
        return Verdict(UNDECIDED, None)
    below, above = Range(-math.inf, supported.low), Range(supported.high, math.inf)
    for word, range_ in ((SUPPORTED, supported), (CONTRADICTED, below), (CONTRADICTED, above)):
        if range_.low <= effect.value <= range_.high:
            p_value = max(effect.p_value(bound) for bound in range_ if math.isfinite(bound))
            # By the interval itself, that what is printed and what is decided are the same.
            decided = range_.low < effect.low and effect.high < range_.high
            return Verdict(word if decided else UNDECIDED, p_value)
    raise AssertionError(f'{effect.value} lies in no range')  # the three cover all numbers


def judge_trend(trend: Trend | None, sign: int) -> Verdict:
    """Of the claim that ranks rise (1) or fall (-1)."""
    if trend is None or trend.num_seeds < MIN_SEEDS:
        return Verdict(UNDECIDED, None)
    claimed, opposite = (
        (trend.p_rises, trend.p_falls) if sign > 0 else (trend.p_falls, trend.p_rises)
    )
    p_value = min(1.0, 2.0 * min(claimed, opposite))
    word = SUPPORTED if claimed < opposite else CONTRADICTED
    return Verdict(word if p_value < LEVEL else UNDECIDED, p_value)


def judge_layers(trends: Mapping[str, Trend | None], sign: int) -> Verdict:
    """Of the claim that ranks rise (1) or fall (-1) in most layers: name of a layer -> its trend.

    The p-value is that at which just more than half of the layers are decided.
    """
    found = {name: trend for name, trend in trends.items() if trend is not None}
    if not found or len(found) < len(trends):
        return Verdict(UNDECIDED, None)
    if min(trend.num_seeds for trend in found.values()) < MIN_SEEDS:
        return Verdict(UNDECIDED, None)
    verdicts = {name: judge_trend(trend, sign) for name, trend in found.items()}
    adjusted = dict(
        zip(verdicts, holm([v.p_value or 0.0 for v in verdicts.values()]), strict=True)
    )
    majority = len(found) // 2 + 1
    for word in (SUPPORTED, CONTRADICTED):
        names = [name for name in found if _side(found[name], sign) == word]
        levels = sorted(adjusted[name] for name in names)
        if len(levels) >= majority:
            p_value = levels[majority - 1]
            decided = [name for name in names if adjusted[name] < LEVEL]
            where = f'{len(decided)} of {len(found)} layers'
            return Verdict(word if p_value < LEVEL else UNDECIDED, p_value, where)
    return Verdict(UNDECIDED, 1.0)


def judge_each(effects: Mapping[str, Estimate | None], supported: Range) -> Verdict:
    """Of a claim that is asked at several places: 'λ = 3' -> the effect there.

    Each is decided at a level corrected for their number (Holm). Supported if any place supports
    the claim and none contradicts it, and the other way round; `where` names the places.
    """
    verdicts = {place: judge(effect, supported) for place, effect in effects.items()}
    counted = {place: v for place, v in verdicts.items() if v.p_value is not None}
    if not counted:
        return Verdict(UNDECIDED, None)
    adjusted = dict(zip(counted, holm([v.p_value or 0.0 for v in counted.values()]), strict=True))
    by_word: dict[str, list[str]] = {SUPPORTED: [], CONTRADICTED: []}
    for place, verdict in counted.items():
        if verdict.word != UNDECIDED and adjusted[place] < LEVEL:
            by_word[verdict.word].append(place)
    listed = '; '.join(f'{word} at {", ".join(p)}' for word, p in by_word.items() if p)
    where = listed or f'at none of {", ".join(effects)}'
    decided = [word for word, places in by_word.items() if places]
    word = decided[0] if len(decided) == 1 else UNDECIDED
    return Verdict(word, min(adjusted.values()), where)


def judge_ratio(ratio: float | None) -> Verdict:
    """Of the claim that a ratio of costs is above 1: it has no seeds, hence no interval."""
    if ratio is None:
        return Verdict(UNDECIDED, None)
    if ratio > CLEAR_RATIO:
        return Verdict(SUPPORTED, None)
    return Verdict(CONTRADICTED if ratio < 1.0 / CLEAR_RATIO else UNDECIDED, None)


def judge_paper(verdicts: Mapping[str, str], needed: Sequence[str]) -> str:
    """Of what rests on several claims of one study: name of a claim -> its word.

    'supported' or 'contradicted' if all those needed are, 'not measured' if any is not there, else
    'not reproduced'.
    """
    found = {verdicts.get(name, 'not measured') for name in needed}
    if 'not measured' in found:
        return 'not measured'
    return found.pop() if found in ({SUPPORTED}, {CONTRADICTED}) else 'not reproduced'


def claim(
    name: str,
    statement: str,
    effect: Estimate | None,
    supported: Range,
    unit: str,
    how: str = '',
    unless: str = '',
) -> Claim:
    """Decided by `judge`. unless: a reason why nothing can be decided, whatever the number."""
    verdict = judge(effect, supported)
    rule = f'The whole interval lies {supported}.'
    if unless:
        verdict, rule = verdict._replace(word=UNDECIDED), f'Undecided: {unless}'
    return _made(name, statement, effect, unit, verdict, rule, how)


def claim_of_trend(
    name: str, statement: str, trend: Trend | None, sign: int, how: str = ''
) -> Claim:
    """Decided by `judge_trend`; the effect is the mean rank correlation."""
    word = 'rise' if sign > 0 else 'fall'
    rule = f'The ranks {word} by Page’s trend test with the seeds as blocks (two-sided, 5 %).'
    verdict = judge_trend(trend, sign)
    return Claim(
        name, statement, trend and trend.correlation, None, 'rank correlation',
        trend.num_seeds if trend else 0, verdict.word, rule, how, verdict.where, verdict.p_value,
    )  # fmt: skip


def claim_of_layers(
    name: str, statement: str, trends: Mapping[str, Trend | None], sign: int, how: str = ''
) -> Claim:
    """Decided by `judge_layers`; the effect is the share of the layers that go the claimed way."""
    word = 'rise' if sign > 0 else 'fall'
    rule = (
        f'More than half of the layers {word}, each by Page’s trend test with the seeds as blocks '
        '(two-sided, 5 % after Holm’s correction for the number of layers).'
    )
    found = [trend for trend in trends.values() if trend is not None]
    verdict = judge_layers(trends, sign)
    share = None
    if found and len(found) == len(trends):
        share = sum(_side(trend, sign) == SUPPORTED for trend in found) / len(found)
    seeds = min((trend.num_seeds for trend in found), default=0)
    return Claim(
        name, statement, share, None, 'share of layers', seeds if share is not None else 0,
        verdict.word, rule, how, verdict.where, verdict.p_value,
    )  # fmt: skip


def claim_at_each(
    name: str,
    statement: str,
    effects: Mapping[str, Estimate | None],
    pooled: Estimate | None,
    supported: Range,
    unit: str,
    how: str = '',
) -> Claim:
    """Decided by `judge_each`, at one place by `judge`; the effect shown is the pooled one."""
    if len(effects) == 1:
        (effect,) = effects.values()
        return claim(name, statement, effect, supported, unit, how)
    verdict = judge_each(effects, supported)
    rule = (
        f'At each of {", ".join(effects)}, with Holm’s correction for their number: the whole '
        f'interval lies {supported}. It must hold at one and be contradicted at none. The effect '
        'shown is the mean over them.'
    )
    return _made(name, statement, pooled, unit, verdict, rule, how)


def claim_of_ratio(name: str, statement: str, ratio: float | None, how: str = '') -> Claim:
    """Decided by `judge_ratio`."""
    rule = (
        f'A ratio of medians, without an interval: supported above {CLEAR_RATIO:g}, contradicted '
        f'below 1/{CLEAR_RATIO:g}.'
    )
    return Claim(name, statement, ratio, None, 'times', 0, judge_ratio(ratio).word, rule, how)


def after_holm(claims: Sequence[tuple[str, float | None]]) -> list[str]:
    """The words of a family of claims if all of them together are to err in 5 % at most."""
    tested = [index for index, (_, p_value) in enumerate(claims) if p_value is not None]
    adjusted = holm([claims[index][1] or 0.0 for index in tested])
    words = [word for word, _ in claims]
    for index, p_value in zip(tested, adjusted, strict=True):
        if p_value >= LEVEL:
            words[index] = UNDECIDED
    return words


def counts(claims: Iterable[Claim]) -> str:
    """'Of 7 claims, 3 are supported, 1 is contradicted and 3 are undecided.'"""
    words = [claim.verdict for claim in claims]
    several = [
        f'{words.count(word)} {"is" if words.count(word) == 1 else "are"} {word}' for word in WORDS
    ]
    return f'Of {len(words)} claims, {several[0]}, {several[1]} and {several[2]}.'


def _made(
    name: str,
    statement: str,
    effect: Estimate | None,
    unit: str,
    verdict: Verdict,
    rule: str,
    how: str,
) -> Claim:
    # Of a claim at each of several places there may be a verdict without a mean over these.
    shown = (None, None) if effect is None else (effect.value, effect.interval)
    return Claim(
        name, statement, *shown, unit, effect.num_seeds if effect else 0, verdict.word, rule, how,
        verdict.where, verdict.p_value,
    )  # fmt: skip


def _side(trend: Trend, sign: int) -> str:
    """Which way the ranks go, significantly or not, held against the claim."""
    rises = trend.correlation * sign
    return SUPPORTED if rises > 0 else CONTRADICTED if rises < 0 else UNDECIDED


def _signed(value: float) -> str:
    return f'{value:g}'.replace('-', '−')


@dataclass(frozen=True)
class Record:
    """A claim as verdicts.json has it; numbers are None where there are none."""

    name: str
    claim: str
    verdict: str
    effect: float | None
    low: float | None  # of its 95 % interval
    high: float | None
    unit: str
    seeds: int
    rule: str
    how: str
    where: str
    p_value: float | None
    command: str
    commit: str
    data: str  # a sentence on the images


def records(claims: Iterable[Claim], provenance: Mapping[str, Any], command: str) -> list[Record]:
    """provenance: with 'commit' and 'data'."""
    return [
        Record(
            claim.name, claim.statement, claim.verdict, claim.effect,
            *(claim.interval or (None, None)), claim.unit, claim.num_seeds, claim.rule, claim.how,
            claim.where, claim.p_value, command, provenance['commit'], provenance['data'],
        )
        for claim in claims
    ]  # fmt: skip


def write_verdicts(
    path: Path, claims: Iterable[Claim], provenance: Mapping[str, Any], command: str
) -> None:
    """A list of objects with the fields of `Record`. Infinite ends of intervals become null."""
    write_json(path, [asdict(record) for record in records(claims, provenance, command)])


def read_verdicts(path: Path) -> list[Record]:
    """Raises ReportError, one line, for a file that is no such list."""
    rows = read_file(path, read_json)
    wanted = [field.name for field in fields(Record)]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ReportError(f'{path}: must be a list of verdicts')
    for number, row in enumerate(rows):
        absent = [name for name in wanted if name not in row]
        if absent:
            raise ReportError(
                f'{path}: verdict {number} has no {", ".join(absent)}; draw the report again with '
                'the command that made the study'
            )
    return [Record(**{name: row[name] for name in wanted}) for row in rows]

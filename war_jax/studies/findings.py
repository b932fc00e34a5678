"""Which paper holds where: docs/findings.md, decided anew from the rows that the studies left.

    python -m war_jax.studies.findings                                    # from docs/studies/*
    python -m war_jax.studies.findings epsilon=runs/epsilon adv_ntk=runs/adv-ntk

NAME=WORKDIR first copies a study's study.json and rows to docs/studies/NAME. From these its own
experiment decides the claims again (so that a mended rule needs no training), which are written to
verdicts.json there. What a study is about is decided by the first word of its name: see QUESTIONS.
Exit codes: 0 done, 2 refused (one line on stderr says why).
"""

import importlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from war_jax.lab import experiment
from war_jax.lab.page import join
from war_jax.lab.tables import Column, as_markdown, small, small_interval
from war_jax.lab.verdicts import WORDS, Record, after_holm, judge_paper, records
from war_jax.records.files import (
    ReportError,
    read_file,
    read_json,
    replacing,
    require,
    write_json,
    write_text,
)

ROOT = Path(__file__).resolve().parents[2]
_UNASKED = (
    'No study whose rows are kept speaks of this yet. What earlier ones found, by the rules of '
    'their time, stands in [results.md](results.md).'
)
_KEPT = ('study.json', 'rows.csv')
Studies = Mapping[str, Sequence[Record]]  # name of the study -> what it found


class Question(NamedTuple):
    title: str
    # A family of claims: 'A', 'B', 'C', 'T' for the theory of wide networks, 'S' for scaling.
    paper: str
    prefixes: tuple[str, ...]  # of the studies that speak of it
    claims: tuple[str, ...]  # beginnings of the names of their claims; (): all


class Paper(NamedTuple):
    """It holds at the scale of a study if all of these claims are supported there."""

    title: str
    prefixes: tuple[str, ...]
    needed: tuple[str, ...]


_CURVES = ('natural_accuracy_with', 'perturbation_stability', 'robust_accuracy_with',
           'local_lipschitz', 'lipschitz_by_margin', 'risk_ratio')  # fmt: skip
QUESTIONS = (
    Question('At equal λ, what does width do? (Wu et al. 2021)', 'A', ('width',), _CURVES),
    Question('Does the best λ grow with width, and does WAR find it?', 'A', ('width',),
             ('best_lambda', 'war_')),
    Question('Does adversarial training converge near its start? (Gao et al. 2019)', 'B',
             ('convergence',), ()),
    Question('Which width fits robustly? (Gao et al. 2019)', 'B', ('capacity',), ()),
    Question('Is robustness a regularization? (Wen et al. 2020)', 'C', ('epsilon',), ()),
    Question('What does the theory of wide networks say?', 'T', ('ntk', 'adv'), ()),
    Question('What else makes a network robust, and by which law? (ours)', 'S', ('scaling',), ()),
)  # fmt: skip
PAPERS = (
    Paper('A. Wider networks are less stable, and need a larger λ (Wu et al. 2021)', ('width',),
          ('perturbation_stability_with_width', 'best_lambda_grows')),
    Paper('B. Robust fits need more capacity, the more the higher the dimension (Gao et al. 2019)',
          ('capacity',), ('width_ratio-grows-with-dimension',)),
    Paper('C. Robustness makes margins small and layers even (Wen et al. 2020)', ('epsilon',),
          ('margin_with_epsilon', 'random_cv_with_epsilon', 'margin_with_epsilon_matched',
           'random_cv_with_epsilon_matched')),
)  # fmt: skip


def keep(name: str, workdir: Path, root: Path = ROOT) -> None:
    """Copies what a study's claims rest on to docs/studies/NAME. Raises ReportError."""
    folder = root / 'docs' / 'studies' / name
    if not all((workdir / file).is_file() for file in _KEPT):
        raise ReportError(f'{name}={workdir}: must be the folder of a study that has its report')
    # Before anything is copied: a study of before the frame has none, and could not be decided.
    study = read_file(workdir / 'study.json', read_json)
    require(workdir / 'study.json', study, ('experiment',))
    for file in _KEPT:
        with replacing(folder / file) as temporary:
            shutil.copyfile(workdir / file, temporary)


def decide_again(folder: Path) -> list[Record]:
    """By the module that study.json names: by the Experiment it holds as EXPERIMENT, or else by its
    function `decide`. Raises ReportError, one line."""
    study = read_file(folder / 'study.json', read_json)
    require(folder / 'study.json', study, ('experiment',))
    try:
        module = importlib.import_module(study['experiment'])
    except ImportError as error:
        raise ReportError(f'{folder}: its experiment is not there: {error}') from error
    if hasattr(module, 'EXPERIMENT'):
        claims, provenance = experiment.decide(module.EXPERIMENT, folder)
    else:
        claims, provenance = module.decide(folder)
    return records(claims, provenance, provenance['command'] or '')


def _rounded(record: Record) -> Record:
    """To the digits that every kind of processor computes alike."""
    rounded = {
        name: float(f'{value:.12g}')
        for name, value in asdict(record).items()
        if isinstance(value, float)
    }
    return replace(record, **rounded)


def page(studies: Studies) -> str:
    """docs/findings.md as text."""
    corrected = _corrected(studies)
    blocks = [
        '# Findings',
        'Three papers, held against what this program measured, at the scales measured: small '
        'networks on few images. Made by `python -m war_jax.studies.findings` from the rows in '
        '`docs/studies/`; how each number came about stands in [results.md](results.md), how a '
        'claim is decided in [verdicts.md](verdicts.md).',
        '## Which paper holds where',
        as_markdown(*_papers(studies)),
        'A paper is *supported* by a study if every claim that it rests on is, *contradicted* if '
        'every one is contradicted, and else *not reproduced* at that scale.',
        'Every claim below was decided by its own rule, which `docs/studies/NAME/verdicts.json` '
        'has as a sentence. The second verdict is the one that is left when all claims on its '
        f'paper together are to err in 5 % at most (Holm): {_families(studies)}.',
    ]
    for question in QUESTIONS:
        rows = [
            _row(name, record, corrected[name, record.name])
            for name, record in _of(question, studies)
        ]
        blocks += [f'## {question.title}', as_markdown(_columns(), rows) if rows else _UNASKED]
    listed = [_study(name, found) for name, found in sorted(studies.items()) if found]
    commands = (
        'Each with the command that wrote what is kept of it. '
        '`python -m war_jax.studies.catalogue` lists them all, also those that train what a study '
        'only measures.'
    )
    blocks += ['## The studies', commands, *listed]
    return join(blocks)


def _of(question: Question, studies: Studies) -> list[tuple[str, Record]]:
    """(study, record) of the claims that answer it."""
    return [
        (name, record)
        for name, found in sorted(studies.items())
        if name.split('_')[0] in question.prefixes
        for record in found
        if not question.claims or record.name.startswith(question.claims)
    ]


def _family(paper: str, studies: Studies) -> list[tuple[str, Record]]:
    return [
        pair for question in QUESTIONS if question.paper == paper for pair in _of(question, studies)
    ]


def _corrected(studies: Studies) -> dict[tuple[str, str], str]:
    """(study, claim) -> its verdict after the correction for the claims of its paper."""
    found = {}
    for paper in dict.fromkeys(question.paper for question in QUESTIONS):
        family = _family(paper, studies)
        words = after_holm([(record.verdict, record.p_value) for _, record in family])
        for (name, record), word in zip(family, words, strict=True):
            found[name, record.name] = word
    return found


def _families(studies: Studies) -> str:
    """'A 24 claims, B 40 claims'."""
    sizes = {
        paper: sum(record.p_value is not None for _, record in _family(paper, studies))
        for paper in dict.fromkeys(question.paper for question in QUESTIONS)
    }
    listed = [f'{size} tested claims on {_CALLED[paper]}' for paper, size in sizes.items() if size]
    return ', '.join(listed) or 'no claim yet'


_CALLED = {
    'A': 'paper A', 'B': 'paper B', 'C': 'paper C', 'T': 'the theory of wide networks',
    'S': 'size and compute',
}  # fmt: skip


def _papers(studies: Studies) -> tuple[list[Column], list[dict[str, str]]]:
    columns = [
        Column('paper', 'Paper', align='l'),
        Column('study', 'Study', align='l'),
        Column('decision', 'Decision', align='l'),
        Column('claims', 'Claims that it rests on', align='l'),
    ]
    rows = []
    for paper in PAPERS:
        named = [name for name in sorted(studies) if name.split('_')[0] in paper.prefixes]
        for name in named or ['—']:
            found = {record.name: record for record in studies.get(name, ())}
            verdicts = {key: record.verdict for key, record in found.items()}
            listed = [
                f'{found[key].claim}: {verdicts[key]}' for key in paper.needed if key in found
            ]
            rows.append({
                'paper': paper.title, 'study': name,
                'decision': judge_paper(verdicts, paper.needed), 'claims': '; '.join(listed) or '—',
            })  # fmt: skip
    return columns, rows


def _columns() -> list[Column]:
    return [
        Column('verdict', 'Verdict', align='l'),
        Column('corrected', 'With Holm', align='l'),
        Column('claim', 'Claim', align='l'),
        Column('effect', 'Effect', small),
        Column('interval', '95 % interval', small_interval),
        Column('unit', 'Unit', align='l'),
        Column('seeds', 'Seeds'),
        Column('study', 'Study', align='l'),
    ]


def _row(study: str, record: Record, corrected: str) -> dict[str, object]:
    bounds = (record.low, record.high)
    where = f' ({record.where})' if record.where else ''
    return {
        **vars(record),
        'verdict': record.verdict + where,
        'corrected': corrected if record.p_value is not None else None,
        'interval': None if None in bounds else bounds,
        'seeds': record.seeds or None,
        'study': study,
    }


def _study(name: str, found: Sequence[Record]) -> str:
    """Data, commit and command, from its first claim: they have them in common."""
    first = found[0]
    words = [record.verdict for record in found]
    kinds = ', '.join(f'{words.count(word)} {word}' for word in WORDS if word in words)
    return (
        f'**{name}**: {kinds}. {first.data.rstrip(".")}. Commit {first.commit}.\n\n'
        f'    {first.command}'
    )


def main(argv: Sequence[str], root: Path = ROOT) -> int:
    folder = root / 'docs' / 'studies'
    known = {prefix for question in QUESTIONS for prefix in question.prefixes}
    studies: dict[str, list[Record]] = {}
    try:
        for argument in argv:
            name, equals, workdir = argument.partition('=')
            if not (equals and name.isidentifier()) or name.split('_')[0] not in known:
                first = ', '.join(sorted(known))
                raise ReportError(
                    f'{argument}: must be NAME=WORKDIR, with a NAME that begins with one of {first}'
                )
            keep(name, Path(workdir), root)
        for kept in sorted(path.parent for path in folder.glob('*/study.json')):
            studies[kept.name] = [_rounded(record) for record in decide_again(kept)]
            write_json(kept / 'verdicts.json', [asdict(record) for record in studies[kept.name]])
    except ReportError as error:
        print(f'war_jax.studies.findings: error: {error}', file=sys.stderr)
        return 2
    write_text(root / 'docs' / 'findings.md', page(studies))
    print(f'{len(studies)} studies: {root / "docs" / "findings.md"}')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))

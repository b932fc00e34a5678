"""Which paper holds where: docs/findings.md, from the verdicts of the studies.

    python -m war_jax.studies.findings                                   # from docs/verdicts/*.json
    python -m war_jax.studies.findings epsilon=runs/epsilon adv_ntk=runs/adv-ntk

NAME=WORKDIR first copies WORKDIR/verdicts.json to docs/verdicts/NAME.json, where the page's inputs
stand in the repository. What a study is about is decided by the first word of its name: see
QUESTIONS. Exit codes: 0 done, 2 refused (one line on stderr says why).
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from war_jax.lab.tables import Column, as_markdown, decimal, decimal_interval
from war_jax.lab.verdicts import Verdict, read_verdicts
from war_jax.records.files import ReportError, write_json, write_text
from war_jax.studies.width.claims import CONTRADICTED, SUPPORTED

ROOT = Path(__file__).resolve().parents[2]
Studies = Mapping[str, Sequence[Verdict]]  # name of the study -> what it found


class Question(NamedTuple):
    title: str
    prefixes: tuple[str, ...]  # of the studies that speak of it
    claims: tuple[str, ...]  # beginnings of the names of their claims; (): all


class Paper(NamedTuple):
    """It holds at the scale of a study if all of these claims are supported there."""

    title: str
    prefixes: tuple[str, ...]
    needed: tuple[str, ...]


_CURVES = ('natural_accuracy_with', 'perturbation_stability', 'robust_accuracy_with',
           'local_lipschitz', 'risk_ratio')  # fmt: skip
QUESTIONS = (
    Question('At equal λ, what does width do? (Wu et al. 2021)', ('width',), _CURVES),
    Question('Does the best λ grow with width, and does WAR find it?', ('width',),
             ('best_lambda', 'war_')),
    Question('Does adversarial training converge near its start? (Gao et al. 2019)',
             ('convergence',), ()),
    Question('Which width fits robustly? (Gao et al. 2019)', ('capacity',), ()),
    Question('Is robustness a regularization? (Wen et al. 2020)', ('epsilon',), ()),
    Question('What does infinite width say?', ('ntk', 'adv'), ()),
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


def decide(verdicts: Mapping[str, str], needed: Sequence[str]) -> str:
    """verdicts: of a study, by the name of the claim."""
    found = [verdicts.get(name, 'not measured') for name in needed]
    if 'not measured' in found:
        return 'not measured'
    if all(verdict == SUPPORTED for verdict in found):
        return 'supported'
    return 'contradicted' if all(verdict == CONTRADICTED for verdict in found) else 'not reproduced'


def page(studies: Studies) -> str:
    """docs/findings.md as text."""
    blocks = [
        '# Findings',
        'Three papers, held against what this program measured, at the scales measured: small '
        'networks on few images. Made by `python -m war_jax.studies.findings` from '
        '`docs/verdicts/`; how each number came about stands in [results.md](results.md).',
        '## Which paper holds where',
        as_markdown(*_papers(studies)),
        'A paper is *supported* by a study if every claim that it rests on is, *contradicted* if '
        'every one is contradicted, and else *not reproduced* at that scale. A claim is supported '
        'if its 95 % interval over seeds lies wholly on the claimed side of no effect, '
        'contradicted if wholly on the other, undecided otherwise; no interval is widened for the '
        'number of claims.',
    ]
    for question in QUESTIONS:
        rows = [
            _row(name, verdict)
            for name, verdicts in sorted(studies.items())
            if name.split('_')[0] in question.prefixes
            for verdict in verdicts
            if not question.claims or verdict.name.startswith(question.claims)
        ]
        if rows:
            blocks += [f'## {question.title}', as_markdown(_columns(), rows)]
    blocks += ['## The studies', *(_study(name, studies[name]) for name in sorted(studies))]
    return '\n\n'.join(block.rstrip('\n') for block in blocks) + '\n'


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
            found = {v.name: v for v in studies.get(name, ())}
            verdicts = {key: v.verdict for key, v in found.items()}
            listed = [
                f'{found[key].claim}: {verdicts[key]}' for key in paper.needed if key in found
            ]
            rows.append({
                'paper': paper.title, 'study': name, 'decision': decide(verdicts, paper.needed),
                'claims': '; '.join(listed) or '—',
            })  # fmt: skip
    return columns, rows


def _columns() -> list[Column]:
    return [
        Column('verdict', 'Verdict', align='l'),
        Column('claim', 'Claim', align='l'),
        Column('effect', 'Effect', decimal),
        Column('interval', '95 % interval', decimal_interval),
        Column('unit', 'Unit', align='l'),
        Column('seeds', 'Seeds'),
        Column('study', 'Study', align='l'),
    ]


def _row(study: str, verdict: Verdict) -> dict[str, object]:
    bounds = (verdict.low, verdict.high)
    interval = None if None in bounds else bounds
    return {**vars(verdict), 'interval': interval, 'seeds': verdict.seeds or None, 'study': study}


def _study(name: str, verdicts: Sequence[Verdict]) -> str:
    """Data, commit and command, from its first verdict: they have them in common."""
    first = verdicts[0]
    counts = [v.verdict for v in verdicts]
    kinds = ', '.join(f'{counts.count(kind)} {kind}' for kind in dict.fromkeys(counts))
    return (
        f'**{name}**: {kinds}. {first.data.rstrip(".")}. Commit {first.commit}.\n\n'
        f'    {first.command}'
    )


def main(argv: Sequence[str], root: Path = ROOT) -> int:
    folder = root / 'docs' / 'verdicts'
    try:
        for argument in argv:
            name, equals, workdir = argument.partition('=')
            source = Path(workdir) / 'verdicts.json'
            if not (equals and name.isidentifier()) or not source.is_file():
                raise ReportError(f'{argument}: must be NAME=WORKDIR, with a verdicts.json in it')
            write_json(folder / f'{name}.json', [asdict(v) for v in read_verdicts(source)])
        studies = {path.stem: read_verdicts(path) for path in sorted(folder.glob('*.json'))}
        known = {prefix for question in QUESTIONS for prefix in question.prefixes}
        for name, verdicts in studies.items():
            if name.split('_')[0] not in known or not verdicts:
                first = ', '.join(sorted(known))
                raise ReportError(f'{name}: must hold verdicts, and begin with one of {first}')
    except ReportError as error:
        print(f'war_jax.studies.findings: error: {error}', file=sys.stderr)
        return 2
    write_text(root / 'docs' / 'findings.md', page(studies))
    print(f'{len(studies)} studies: {root / "docs" / "findings.md"}')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))

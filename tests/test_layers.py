"""The floors of the design: a file imports from lower floors, or from its left on its own.

A library never imports an experiment, and no experiment imports another: what two of them need
stands in war_jax/lab, or beside them in ntk/studies. war_jax stands without ntk.

Read off the sources with `ast`, so that imports inside functions count too. The checker itself is
tried on small made-up sources with planted violations.
"""

import ast
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the lowest floor to the highest; on one floor from left to right. A name stands for a module
# or for a package with all that is in it.
FLOORS = (
    (
        'lazy', 'config_rules', 'config_types', 'families', 'config_data', 'config_model',
        'config_training', 'config_keys', 'config',
        'config_argument', 'config_help', 'processes', 'lowering', 'mesh', 'models', 'attacks',
        'records',
    ),
    ('data', 'measures', 'lab', 'report'),
    ('training',),
    (
        'run', 'command_line', 'compilation_cache', 'program', 'robustness', 'from_python', 'main',
        'rehearsal', 'rehearse', 'get_data', 'evaluate', 'export', 'studies', '__main__',
    ),
)
NTK_FLOORS = (
    ('compat', 'functional', 'networks', 'spectral', 'gradients', 'infinite', 'empirical'),
    ('studies',),
    ('main',),
)
# What is seen from outside of each experiment: packages, below these parents.
STUDIES = ('war_jax.studies', 'ntk.studies')
# The sweep of epsilon trains its networks as the study of width does.
ALLOWED = {('war_jax.studies.regularization', 'war_jax.studies.width')}
FORBIDDEN = ('ntk', 'neural_tangents')  # in war_jax


def sources(package: str) -> dict[str, str]:
    """Module name -> source, for all modules of a package of this repository."""
    result = {}
    for path in sorted((ROOT / package).rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        name = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
        result[name] = path.read_text(encoding='utf-8')
    return result


def imported(name: str, source: str, is_package: bool) -> set[str]:
    """Dotted names that a source imports; `from a import b` gives both a and a.b."""
    package = name if is_package else name.rpartition('.')[0]
    result = set()
    for node in executed(ast.parse(source)):
        if isinstance(node, ast.Import):
            result |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = '.' * node.level + (node.module or '')
            base = importlib.util.resolve_name(base, package)
            result |= {base, *(f'{base}.{alias.name}' for alias in node.names)}
    return result


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those for type checkers alone."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        is_for_types = isinstance(child, ast.If) and ast.unparse(child.test) == 'TYPE_CHECKING'
        if not is_for_types:
            yield from executed(child)


def places(floors: Sequence[Sequence[str]]) -> dict[str, tuple[int, int]]:
    """Name -> (floor, column)."""
    return {
        name: (floor, column)
        for floor, names in enumerate(floors)
        for column, name in enumerate(names)
    }


def experiment_of(module: str) -> str | None:
    """'ntk.studies.width.bench' -> 'ntk.studies.width'; None for what is no package there."""
    parts = module.split('.')
    is_one = '.'.join(parts[:2]) in STUDIES and (ROOT / Path(*parts[:3])).is_dir()
    return '.'.join(parts[:3]) if len(parts) > 2 and is_one else None


def violations(
    modules: Mapping[str, str],
    floors: Sequence[Sequence[str]] = FLOORS,
    forbidden: Sequence[str] = FORBIDDEN,
) -> list[str]:
    """What is wrong with the imports of {module of a package: source}, one sentence each."""
    graph = {}
    found = []
    place = places(floors)
    for name, source in modules.items():
        is_package = any(other.startswith(f'{name}.') for other in modules)
        targets = imported(name, source, is_package)
        graph[name] = {target for target in targets if target in modules and target != name}
        for target in sorted(targets):
            if target.split('.')[0] in forbidden:
                found.append(f'{name} imports {target}: war_jax must stand without it')
            ours, theirs = experiment_of(name), experiment_of(target)
            if theirs and ours != theirs and (ours, theirs) not in ALLOWED:
                if ours or not name.endswith('.main'):
                    found.append(f'{name} imports {target}: of another experiment')
        parts = name.split('.')
        if len(parts) == 1:
            continue  # the package's own __init__ is below everything; the graph shows its circles
        if parts[1] not in place:
            found.append(f'{name} has no floor: add {parts[1]} to FLOORS')
            continue
        for target in sorted(graph[name]):
            other = target.split('.')[1:2]
            if other and other[0] in place and other[0] != parts[1]:
                here, there = place[parts[1]], place[other[0]]
                if there > here:
                    found.append(f'{name} imports {target}, which is above or to the right of it')
    found += [f'circular import: {" -> ".join(circle)}' for circle in circles(graph)]
    return found


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """One closed path for each edge that leads back to a module still being visited."""
    found, finished = [], set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in finished:
            for target in sorted(graph[name]):
                visit(target, [*path, name])
            finished.add(name)

    for name in graph:
        visit(name, [])
    return found


def test_war_jax_keeps_its_floors():
    modules = sources('war_jax')
    assert {'war_jax', 'war_jax.config', 'war_jax.main'} <= modules.keys()
    assert violations(modules) == []


def test_ntk_keeps_its_floors():
    modules = sources('ntk')
    assert {'ntk.gradients', 'ntk.studies.width.findings', 'ntk.main'} <= modules.keys()
    assert violations(modules, NTK_FLOORS, ()) == []


@pytest.mark.parametrize(
    ('module', 'source'),
    [
        ('war_jax.attacks.pgd', 'from war_jax.attacks import threat\nimport numpy'),
        ('war_jax.attacks.pgd', 'from war_jax import models'),
        ('war_jax.data.sources', 'from war_jax.config import DataConfig'),
        ('war_jax.training.loop', 'from ..lab import tables'),
        ('war_jax.main', 'def main():\n  from war_jax.training.loop import train'),
        ('war_jax.studies.regularization.work', 'from war_jax.studies.width import settings'),
        ('war_jax.studies.width.runner', 'from war_jax.studies.width.settings import Settings'),
    ],
)
def test_checker_accepts(module: str, source: str):
    assert violations(planted(module, source)) == []


@pytest.mark.parametrize(
    ('module', 'source', 'sentence'),
    [
        ('war_jax.data.sources', 'from war_jax.training import loop', 'imports war_jax.training'),
        ('war_jax.data.sources', 'def f():\n  import war_jax.training.loop', 'above or'),
        ('war_jax.data.sources', 'from ..training.loop import train', 'above or'),
        ('war_jax.data.sources', 'from war_jax.measures import x', 'above or'),
        ('war_jax.models', 'from war_jax.attacks.pgd import pgd', 'above or'),
        ('war_jax.config', 'import neural_tangents as nt', 'stand without it'),
        ('war_jax.config', 'from ntk.compat import nt', 'stand without it'),
        ('war_jax.attacks.threat', 'from war_jax.attacks.pgd import pgd', 'circular import'),
        ('war_jax', 'from war_jax.config import Config', 'circular import'),
        ('war_jax.surprise', '', 'has no floor'),
        ('war_jax.lab.page', 'from war_jax.studies.width import settings', 'another experiment'),
        ('war_jax.studies.width.a', 'import war_jax.studies.regularization.b', 'another experim'),
        ('war_jax.studies.findings', 'from ntk.studies.width import x', 'stand without it'),
    ],
)
def test_checker_finds_planted_violations(module: str, source: str, sentence: str):
    found = violations(planted(module, source))
    assert len(found) >= 1 and sentence in found[0]


def planted(module: str, source: str) -> dict[str, str]:
    """A small package without violations, but for one module's source."""
    modules = {
        'war_jax': '',
        'war_jax.config': 'import war_jax',
        'war_jax.models': '',
        'war_jax.attacks': '',
        'war_jax.attacks.threat': '',
        'war_jax.attacks.pgd': 'from war_jax.attacks.threat import project',
        'war_jax.lab': '',
        'war_jax.lab.tables': '',
        'war_jax.data': '',
        'war_jax.data.sources': '',
        'war_jax.measures': '',
        'war_jax.training': '',
        'war_jax.training.loop': 'from war_jax.data.sources import load',
        'war_jax.main': '',
    }
    return {**modules, module: source}

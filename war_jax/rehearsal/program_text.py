"""What a compiled program consists of, read off XLA's text of it.

    counts = read(compiled.as_text())
    counts.launches['fusion'], counts.collectives['all-reduce'], counts.cycles

The body of a loop counts as often as it runs, where XLA says so (`known_trip_count`) or where it
counts up to a constant, from 0 as JAX's loops do; else once. Of the branches of a condition the
longest counts. What a fusion or a reduction calls is part of it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# Names for what is there already: nothing is launched.
_NOTHING = {
    'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'after-all', 'iota',
    'partition-id', 'replica-id', 'opt-barrier', 'get-dimension-size', 'add-dependency',
}  # fmt: skip
COLLECTIVES = (
    'all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute',
)  # fmt: skip
_BYTES = {
    'pred': 1, 's8': 1, 'u8': 1, 's16': 2, 'u16': 2, 'f16': 2, 'bf16': 2, 's32': 4, 'u32': 4,
    'f32': 4, 's64': 8, 'u64': 8, 'f64': 8, 'c64': 8, 'c128': 16,
}  # fmt: skip
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$')
_SHAPE = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')


class Instruction(NamedTuple):
    shape: str
    opcode: str
    text: str  # behind the opcode


@dataclass
class Counts:
    """Of one run of a program, on one device."""

    launches: Counter[str] = field(default_factory=Counter)  # by opcode
    collectives: Counter[str] = field(default_factory=Counter)
    collective_bytes: Counter[str] = field(default_factory=Counter)  # of their results
    cycles: int = 0  # as XLA estimates them; 0: it does not
    unknown_loops: int = 0  # counted once

    @property
    def num_launches(self) -> int:
        return self.launches.total()

    def add(self, other: 'Counts', times: int) -> None:
        for name in ('launches', 'collectives', 'collective_bytes'):
            ours, theirs = getattr(self, name), getattr(other, name)
            for key, count in theirs.items():
                ours[key] += times * count
        self.cycles += times * other.cycles
        self.unknown_loops += other.unknown_loops


def read(text: str) -> Counts:
    """Raises ValueError for a text without an entry computation."""
    computations, entry = _computations(text)
    if entry is None:
        raise ValueError('no ENTRY computation: not the text of a compiled program')
    return _count(entry, computations, {})


def num_bytes(shape: str) -> int:
    """'(f32[2,3]{1,0}, bf16[4])' -> 32."""
    total = 0
    for kind, dims in _SHAPE.findall(shape):
        size = _BYTES.get(kind, 0)
        for dim in filter(None, dims.split(',')):
            size *= int(dim)
        total += size
    return total


def _computations(text: str) -> tuple[dict[str, list[Instruction]], str | None]:
    found: dict[str, list[Instruction]] = {}
    entry, name = None, None
    for line in text.splitlines():
        match = _COMPUTATION.match(line)
        if match:
            name = match[2]
            found[name] = []
            entry = name if match[1] else entry
        elif line.startswith('}'):
            name = None
        elif name is not None and ' = ' in line:
            found[name].append(_instruction(line.partition(' = ')[2]))
    return found, entry


def _instruction(text: str) -> Instruction:
    """'(f32[2], s32[]) while(%x), body=%b' in its parts: a tuple's shape has spaces."""
    end = text.index(' ')
    if text.startswith('('):
        depth = 0
        for end, letter in enumerate(text):
            depth += (letter == '(') - (letter == ')')
            if not depth:
                end += 1
                break
    shape, rest = text[:end], text[end:].strip()
    opcode, _, arguments = rest.partition('(')
    return Instruction(shape, opcode, arguments)


def _count(
    name: str, computations: Mapping[str, list[Instruction]], known: dict[str, Counts]
) -> Counts:
    if name in known:
        return known[name]
    counts = Counts()
    for instruction in computations.get(name, ()):
        opcode = instruction.opcode
        if opcode == 'while':
            trips = _trips(instruction, computations)
            counts.unknown_loops += trips is None
            for called in _called(instruction.text, ('body', 'condition')):
                counts.add(_count(called, computations, known), 1 if trips is None else trips)
            continue
        if opcode in ('call', 'async-start'):
            for called in _called(instruction.text, ('to_apply', 'calls')):
                counts.add(_count(called, computations, known), 1)
            continue
        if opcode == 'conditional':
            branches = [_count(called, computations, known) for called in _branches(instruction)]
            if branches:
                counts.add(max(branches, key=lambda branch: branch.num_launches), 1)
            continue
        if opcode in _NOTHING or opcode.endswith(('-done', '-update')):
            continue
        _add_launch(counts, instruction)
    known[name] = counts
    return counts


def _trips(loop: Instruction, computations: Mapping[str, list[Instruction]]) -> int | None:
    """How often a loop runs; None where that depends on what it computes."""
    said = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.text)
    if said:
        return int(said[1])
    # XLA's compiler for TPUs does not say it. Their conditions are `number < constant`.
    (name,) = _called(loop.text, ('condition',))
    condition = computations.get(name, ())
    others = ('parameter', 'get-tuple-element', 'constant', 'compare')
    bounds = [i.text for i in condition if i.opcode == 'constant']
    compared = [i.text for i in condition if i.opcode == 'compare']
    if any(i.opcode not in others for i in condition) or len(bounds) != 1 or len(compared) != 1:
        return None
    bound = re.match(r'(\d+)\)', bounds[0])
    return int(bound[1]) if bound and 'direction=LT' in compared[0] else None


def _add_launch(counts: Counts, instruction: Instruction) -> None:
    opcode = instruction.opcode.removesuffix('-start')
    counts.launches[opcode] += 1
    if opcode in COLLECTIVES:
        counts.collectives[opcode] += 1
        counts.collective_bytes[opcode] += num_bytes(_result(instruction))
    cycles = re.search(r'"estimated_cycles":"(\d+)"', instruction.text)
    counts.cycles += int(cycles[1]) if cycles else 0


def _result(instruction: Instruction) -> str:
    """Its shape; what starts an exchange has its operand and more beside it, but all-reduces."""
    shape, opcode = instruction.shape, instruction.opcode
    if not (opcode.endswith('-start') and shape.startswith('(')) or opcode == 'all-reduce-start':
        return shape
    parts, depth = [''], 0
    for letter in shape[1:-1]:
        depth += (letter in '([{') - (letter in ')]}')
        if letter == ',' and not depth:
            parts.append('')
        else:
            parts[-1] += letter
    return parts[1]


def _called(text: str, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        match = re.search(rf'\b{name}=%?([\w.\-]+)', text)
        if match:
            yield match[1]


def _branches(instruction: Instruction) -> list[str]:
    match = re.search(r'branch_computations=\{([^}]*)\}', instruction.text)
    if match:
        return [name.strip().lstrip('%') for name in match[1].split(',')]
    return list(_called(instruction.text, ('true_computation', 'false_computation')))

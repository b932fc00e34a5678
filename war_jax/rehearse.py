"""Will it fit, and what will it consist of? A run, compiled for chips that are not there.

    python -m war_jax.rehearse --config=configs/wrn.py:34-10 --topology=v5e:4x4
    python -m war_jax.rehearse --config=configs/wrn.py:34-1 --topology=h100 --programs=step

--topology is a TPU slice (v4:2x2x1, v5e:4x4, v5p:2x2x1, v6e:2x2, ...) or a GPU (h100, h200). XLA's
own compilers for these chips do the work, on the CPU: `pip install 'war-jax[rehearse-tpu]'` or
`[rehearse-gpu]`. Nothing is run and no data are read. For each program (step: of training; measure:
an attack of validation; attack: a step of AutoAttack's APGD): memory per chip beside the chip's,
collectives, kernels launched, and XLA's estimate of its time where it makes one (TPUs). --output
names a JSON file. Compiling for a TPU takes minutes, each time anew: JAX cannot load a program that
it has kept without the chip. Exit codes: 0 all fits, 1 something does not, 2 refused (one line on
stderr says why).
"""

import sys
import time
from pathlib import Path
from typing import Any

from absl import flags

from war_jax.config import Config, ConfigError, resolve
from war_jax.config_rules import nearest
from war_jax.program import Program
from war_jax.rehearsal.chips import Chip, chip_of

NAMES = ('step', 'measure', 'attack')


def define_flags(values: flags.FlagValues) -> None:
    text = flags.DEFINE_string
    text('topology', None, 'a TPU slice, as v5e:4x4, or h100, h200', flag_values=values)
    text('programs', 'step,measure,attack', 'which, separated by commas', flag_values=values)
    text('output', '', 'a JSON file to write to', flag_values=values)


def read(values: flags.FlagValues) -> tuple[Config, str, list[str], str]:
    """Configuration, topology, programs and output. Raises ConfigError."""
    chip_of(values.topology)
    names = [name.strip() for name in values.programs.split(',')]
    for name in names:
        if name not in NAMES:
            rule = f'must be of {", ".join(NAMES)}'
            raise ConfigError(f'--programs={name}: {rule}; nearest: {nearest(name, NAMES)}')
    return resolve(values.config), values.topology, names, values.output


def work(about: tuple[Config, str, list[str], str], command: str) -> int:
    from war_jax.mesh import make_mesh
    from war_jax.records.files import write_json
    from war_jax.rehearsal.chips import devices_of
    from war_jax.rehearsal.programs import programs
    from war_jax.training.build import precision

    config, topology, names, output = about
    mesh, chip = make_mesh(devices_of(topology)), chip_of(topology)
    print(f'{mesh.size} x {mesh.devices.flat[0].device_kind}, batch {config.optimizer.batch_size}')
    found: dict[str, Any] = {}
    with precision(config):
        every = programs(config, mesh)
        for name in names:
            found[name] = rehearsed(every[name], chip)
            print(f'{name}: {sentence(found[name])}', flush=True)
    if output:
        write_json(Path(output), {'command': command, 'topology': topology, 'programs': found})
    return 0 if all(row['fits'] for row in found.values()) else 1


def rehearsed(lowered: Any, chip: Chip) -> dict[str, Any]:
    """Compiles one program; what is known of it, per chip."""
    from war_jax.rehearsal.program_text import read as read_program

    start = time.monotonic()
    compiled = lowered().compile()
    seconds = time.monotonic() - start
    plan, counts = compiled.memory_analysis(), read_program(compiled.as_text() or '')
    arguments, temporary = plan.argument_size_in_bytes, plan.temp_size_in_bytes
    new = plan.output_size_in_bytes - plan.alias_size_in_bytes
    estimated = counts.cycles / chip.clock if chip.clock and counts.cycles else None
    return {
        'argument_bytes': arguments,
        'temporary_bytes': temporary,
        'output_bytes': new,
        'memory_bytes': int(chip.memory),
        'fits': arguments + temporary + new <= chip.memory,
        'collectives': dict(counts.collectives),
        'collective_bytes': dict(counts.collective_bytes),
        'launches': counts.num_launches,
        'launches_by_kind': dict(counts.launches.most_common()),
        'loops_of_unknown_length': counts.unknown_loops,
        'estimated_seconds': estimated,
        'compile_seconds': seconds,
    }


def sentence(row: dict[str, Any]) -> str:
    from war_jax.training.memory import in_units

    total = row['argument_bytes'] + row['temporary_bytes'] + row['output_bytes']
    collectives = ', '.join(
        f'{count} {name} ({row["collective_bytes"][name] / 1e6:.1f} MB)'
        for name, count in row['collectives'].items()
    )
    estimated = row['estimated_seconds']
    parts = [
        f'{"fits" if row["fits"] else "DOES NOT FIT"}: {in_units(total)} of '
        f'{in_units(row["memory_bytes"])} (arguments {in_units(row["argument_bytes"])}, temporary '
        f'{in_units(row["temporary_bytes"])})',
        f'{row["launches"]} launches',
        collectives or 'no collectives',
        f'{estimated * 1e3:.1f} ms by XLA' if estimated else '',
        f'compiled in {row["compile_seconds"]:.0f} s',
    ]
    if row['loops_of_unknown_length']:
        parts.append(f'{row["loops_of_unknown_length"]} loops of unknown length, counted once')
    return '; '.join(filter(None, parts))


main = Program('war_jax.rehearse', __doc__ or '', define_flags, read, work, keeps_programs=False)

if __name__ == '__main__':
    sys.exit(main(sys.argv))

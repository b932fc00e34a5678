"""Under which conditions the numbers of a study were obtained, and how its networks are called."""

from war_jax.families import network_name
from war_jax.lab import tables
from war_jax.report import conditions as of_runs
from war_jax.studies.width.claims import listed
from war_jax.studies.width.study import Study
from war_jax.studies.width.tasks import RULES


def networks(study: Study) -> str:
    """'WRN-10-k, k = 0.125 … 1'."""
    planned = study.plan['widths']
    span = f'{planned[0]:g}' + (f' … {planned[-1]:g}' if len(planned) > 1 else '')
    return f'{network_name(study.config["model"], width="k")}, k = {span}'


def conditions(study: Study) -> list[tuple[str, object]]:
    """What the numbers of the page depend on: (what, how)."""
    config, about, plan, rows = study.config, study.provenance, study.plan, study.rows

    images = {row['num_examples'] for row in rows}
    seconds = sum(row['device_seconds'] for row in rows)
    rules = dict.fromkeys(RULES[method] for method in plan['war'] if method in RULES)
    controllers = [of_runs.controller({**config['war'], 'rule': rule}) for rule in rules]
    war_cells = [('WAR', '; '.join(controllers))] if controllers else []
    return [
        ('Data', about['data']),
        ('SHA-256 of the data', about['checksum']),
        ('Test images', ' or '.join(f'{number:,}' for number in sorted(images))),
        ('Networks', f'{networks(study)}; k = {listed(plan["widths"])}'),
        ('λ', listed(plan['lams'])),
        ('Seeds', listed(plan['seeds'])),
        ('Training', of_runs.training(config, 'λ as the tables say')),
        *war_cells,
        ('Optimizer', of_runs.optimizer(config)),
        (
            'Attack of validation and headline',
            of_runs.headline_attack(config['evaluation'], config['threat']),
        ),
        (
            'Checkpoint',
            f'the best robust accuracy on {config["evaluation"]["select_on"]} images over the '
            'epochs; test images are measured once, with it',
        ),
        (
            'Best λ of the grid',
            'the highest robust accuracy of those checkpoints on validation images, as a mean '
            'over seeds; of equals, the smallest. WAR starts from that of the thinnest network',
        ),
        *(
            [('AutoAttack', f'the standard version, on {count} test images, of the networks at '
              'the best λ of the grid')]
            if (count := plan.get('autoattack_examples')) else []
        ),
        (
            'Intervals',
            '95 %, Student’s t over seeds: they cover the draw of the seed (initial weights, '
            'order, augmentation and attack starts), not that of the images. What differs by '
            'factors is averaged in logarithms.',
        ),
        ('Commit', ', '.join(sorted({str(row['commit']) for row in rows}))),
        ('Devices of a run', ', '.join(sorted({row['device'] for row in rows}))),
        ('Versions, of the first process', of_runs.versions(about)),
        ('Device time', f'{tables.duration(seconds)} in {len(rows)} runs'),
    ]

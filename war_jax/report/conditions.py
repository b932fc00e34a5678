"""Under which conditions a run's numbers were obtained: a table, and what changed along the way.

    text = table(run)                              # Markdown
    blocks = sessions(run.sessions)                # of a run that was interrupted: when and where

`run` is what `war_jax.report.run_files.read_run` returns.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from war_jax.families import network_name
from war_jax.lab import tables
from war_jax.records.console import smoke_sentence
from war_jax.report import figures
from war_jax.report.run_files import RATES, Run

OBJECTIVES = {
    'natural': 'Natural',
    'adversarial': 'Adversarial',
    'madry': 'Madry',
    'madry_per_example': 'Madry (per example)',
    'trades': 'TRADES',
    'trades_ce': 'TRADES (attacked by cross-entropy)',
    'mart': 'MART',
}
HEADLINE_LOSS = 'cross-entropy to the label'
# What sessions of one run may have had of their own, and how it is called.
CIRCUMSTANCES = {
    'commit': 'commit',
    'versions': 'versions of libraries',
    'device': 'device',
    'num_devices': 'number of devices',
}


def table(run: Run) -> str:
    """What the numbers of the page depend on, as a Markdown table."""
    config, about, summary = run.config, run.provenance, run.summary
    rows = [
        ('Attack of the headline', headline_attack(config['evaluation'], summary)),
        ('Images', f'{summary["num_examples"]:,} of the {summary["split"]} split'),
        ('Data', about['data']),
        ('SHA-256 of the data', about['checksum']),
        (
            'Checkpoint',
            f'step {summary["best_step"]}, epoch {summary["best_epoch"]:g}: best '
            f'{RATES[summary["selected_by"]]} on {summary["selected_on"]} images',
        ),
        ('Network', f'{network_name(config["model"])}, {config["model"]["compute_dtype"]}'),
        ('Training', training(config, _lambda(run))),
        ('Optimizer', optimizer(config)),
        ('Training images', images(config)),
        ('Seed', config['seed']),
        ('Commit', about['commit']),
        ('Device', f'{about["num_devices"]} × {about["device"]}'),
        ('Versions', versions(about)),
        ('Wall time', tables.duration(summary['seconds'])),
    ]
    return tables.markdown(('What', 'How'), rows, 'll')


def _lambda(run: Run) -> str:
    if run.reference is None:
        return f'λ = {run.config["objective"]["lam"]:g}'
    thin, war, summary = run.reference, run.config['war'], run.summary
    follows_trajectory = rule(war) == 'integral' and war['target'] == 'trajectory'
    held_to = (
        'the trajectory of the risk ratio'
        if follows_trajectory
        else f'the final risk ratio ζ = {tables.number(thin["zeta"])}'
    )
    sizes = {'depth': thin['depth'], 'widen_factor': thin['widen_factor']}
    thin_name = network_name({**run.config['model'], 'stage_depths': (), **sizes})
    return (
        f'width adjusted λ, from {summary["lambda_start"]:g} to {summary["lambda"]:.3g} (held to '
        f'{held_to} of {thin_name}, seed {thin["seed"]}; '
        f'{controller(war)})'
    )


def rule(war: Mapping[str, Any]) -> str:
    """By which rule λ moves; a config.json from before there was a choice has the first."""
    return war.get('rule', 'integral')


def controller(war: Mapping[str, Any]) -> str:
    """The rule of width adjusted regularization and its constants."""
    if rule(war) == 'fixed_step':
        moves = f'λ up by {war["step"]:g} after a mini-batch whose ratio is below ζ, else down'
        return f'rule fixed_step: {moves}, not below 0'
    epochs = war['averaging_epochs']
    return (
        f'rule integral: gain {war["gain"]:g} over the training, averages over {epochs:g} '
        f'epoch{"s" * (epochs != 1)}, λ at most {war["max_factor"]:g} times the thin network’s'
    )


def training(config: Mapping[str, Any], lam: str) -> str:
    """What was minimised, under which attack; `lam` is the text on lambda, 'λ = 6'."""
    if config['objective']['name'] == 'natural':
        text = 'Natural: cross-entropy of the clean images, no attack'
    else:
        attack, name = config['attack'], config['objective']['name']
        weighted = OBJECTIVES[name] if name == 'adversarial' else f'{OBJECTIVES[name]}, {lam}'
        text = (
            f'{weighted}; {ball(config["threat"])}; '
            f'PGD-{attack["num_steps"]}, step size {_pixels(attack["step_size"])}, {_start(attack)}'
            f'{"".join(_attack_options(attack))}'
        )
    objective = config['objective']
    options = {
        'GradAlign': objective.get('grad_align'),
        'HAT with weight': objective.get('helper') and objective['helper_weight'],
        'label smoothing': config['objective']['label_smoothing'],
        'AWP γ': config['awp']['gamma'],
        'gradient clipped to length': config['optimizer'].get('clip_norm'),
        'measured weights: moving average with decay': config['ema_decay'],
        'its start at epoch': config.get('ema_start'),
    }
    listed = [f'{name} {value:g}' for name, value in options.items() if value]
    if config.get('ema_batch_norm') == 'copied' and config['ema_decay']:
        listed.append('its batch statistics copied')
    updates = config.get('batch_norm', {}).get('updates', 'natural,adversarial')
    if updates != 'natural,adversarial':
        listed.append(f'batch statistics of: {updates.replace(",", ", ")}')
    return '; '.join([text, *listed])


def images(config: Mapping[str, Any]) -> str:
    """What was done to training images, and which were added; an older config.json lacks keys."""
    data, augment = config.get('data', {}), config.get('augment', {})
    operations = augment.get('randaugment')
    done = [
        f'random crop after {data["pad"]} pixels of padding' if data.get('pad') else '',
        'random flip' if data.get('flip') else '',
        f'RandAugment, {operations} of magnitude {augment["magnitude"]:g}' if operations else '',
        f'Cutout of {augment["cutout"]} pixels' if augment.get('cutout') else '',
        f'CutMix with probability {augment["cutmix"]:g}' if augment.get('cutmix') else '',
        f'{data["extra_fraction"]:.0%} of each batch of {Path(data["extra_path"]).name}'
        if data.get('extra_fraction') else '',
    ]  # fmt: skip
    return ', '.join(filter(None, done)) or 'as they are'


def _attack_options(attack: Mapping[str, Any]) -> Iterator[str]:
    """How the attack in training is not the usual one; an older config.json has no such keys."""
    if attack.get('project_start'):
        yield ', projected as steps are'
    if attack.get('projection') == 'box':
        yield ', not kept to the ball'
    if (further := attack.get('early_stop', -1)) >= 0:
        yield f', stopped {further} step{"s" * (further != 1)} after the first error'
    if attack.get('batch_norm') == 'train':
        yield ', BatchNorm by the attacked batch'
    if epochs := attack.get('warmup_epochs'):
        yield f', ε and step size growing over {epochs:g} epochs'


def optimizer(config: Mapping[str, Any]) -> str:
    settings = config['optimizer']
    rises = settings['schedule'] in ('one_cycle', 'cyclic')
    rise = f', rising for {settings["rise"]:.3g} of the training' if rises else ''
    cycled = settings.get('cycle_momentum', False)
    momentum = '0.95 to 0.85 and back' if cycled else f'{settings["momentum"]:g}'
    nesterov = ' (Nesterov)' if settings.get('nesterov') else ''
    return (
        f'SGD, {settings["epochs"]} epochs, batch {settings["batch_size"]}, learning rate '
        f'{settings["learning_rate"]:g} ({settings["schedule"]}{rise}), momentum {momentum}'
        f'{nesterov}, weight decay {settings["weight_decay"]:g}'
    )


def versions(about: Mapping[str, Any]) -> str:
    named = {'Python': about['python'], **about['versions']}
    return ', '.join(f'{name} {version}' for name, version in named.items())


def ball(threat: Mapping[str, Any]) -> str:
    return f'{figures.NORMS[threat["norm"]]} ball of ε = {_pixels(threat["epsilon"])}'


def _start(budget: Mapping[str, Any]) -> str:
    scale = budget['init_scale']
    if budget['init'] == 'none':
        return 'started at the image'
    if budget['init'] == 'gaussian':
        return f'Gaussian start (deviation {scale:g})'
    return 'uniform start' if scale == 1.0 else f'uniform start ({scale:g} of the ball)'


def _pixels(value: float) -> str:
    """0.0313725… -> '0.03137 (8/255)': the two conventions differ and are easily mistaken."""
    whole = round(255.0 * value)
    is_fraction = abs(255.0 * value - whole) < 1e-6 and abs(value - round(value, 3)) > 1e-6
    return f'{value:.4g} ({whole}/255)' if is_fraction else f'{value:.4g}'


def headline_attack(budget: Mapping[str, Any], threat: Mapping[str, Any]) -> str:
    """budget: the configuration of the evaluation; threat: anything with a norm and an epsilon."""
    runs = 'once' if budget['restarts'] == 1 else f'{budget["restarts"]} times, the worst counts'
    return (
        f'PGD-{budget["num_steps"]} on the {HEADLINE_LOSS}: {ball(threat)}, step '
        f'size {_pixels(budget["step_size"])}, {_start(budget)}, run {runs}'
    )


def sessions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of the sessions of a run that had more than one; else nothing."""
    if len(rows) < 2:
        return []
    first = rows[0]['versions']
    cells = [
        (
            f'{row["step"]:,}',
            row['commit'],
            f'{row["num_devices"]} × {row["device"]}',
            ', '.join(f'{k} {v}' for k, v in row['versions'].items() if v != first.get(k)) or '—',
        )
        for row in rows
    ]
    header = ('From step', 'Commit', 'Devices', 'Other versions than at first')
    return [
        f'The run was stopped and continued; it had {len(rows)} sessions:',
        tables.markdown(header, cells, 'rlll'),
    ]


def smoke_warning(config: Mapping[str, Any]) -> list[str]:
    """One sentence if the run was a smoke run; else nothing."""
    sentence = smoke_sentence(config)
    return [f'> **Warning.** {sentence}'] if sentence else []


def session_warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence if sessions differ in what the last bits of a run depend on; else nothing."""
    changed = [
        name for key, name in CIRCUMSTANCES.items() if any(row[key] != rows[0][key] for row in rows)
    ]
    if not changed:
        return []
    return [
        f'> **Warning.** Between the sessions of this run changed: {", ".join(changed)}. Its '
        'numbers can be reproduced, but not bit for bit.'
    ]

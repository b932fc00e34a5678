"""The files of an export: the weights, the card, and RobustBench's result.

    exported = export(Path('runs/demo'), Path('demo.safetensors'), 'robustbench')
    exported.paths, exported.differences
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from war_jax.config import ConfigError
from war_jax.export.card import card
from war_jax.export.layouts import LAYOUTS
from war_jax.export.result import robustbench_result
from war_jax.records.files import read_file, read_json, write_json, write_text
from war_jax.report.run_files import read_run
from war_jax.robustness.network import Network, read_network
from war_jax.robustness.torch_files import write_state
from war_jax.training.networks import make_model


@dataclass(frozen=True)
class Exported:
    """paths: what was written, by what it is. differences: see `layouts.Target.differences`."""

    paths: dict[str, Path]
    differences: list[str]


def export(run: Path, to: Path, layout_name: str) -> Exported:
    """Writes the best network of a run, which need not have ended.

    run: its folder. to: of `robustness.torch_files.WRITTEN`; the card is written beside it with the
    end .md, a result for 'robustbench' with .json. layout_name: of `layouts.LAYOUTS`.
    Raises ConfigError for a folder without a network, for a network that the layout has no class
    for and for a .pt file where PyTorch is missing, ReportError for files of the run that cannot be
    read; nothing is written then.
    """
    network = read_network(str(run))
    if network.config is None:
        raise ConfigError(f'--run={run}: must be the folder of a run')
    model = make_model(network.config, network.num_classes)
    finished = read_run(run) if (run / 'summary.json').is_file() else None
    origin = read_file(run / 'config.json', read_json)
    size = None if finished is None else finished.examples['clean'].shape[1]
    evaluation, notes = _evaluation(run, network)
    target = LAYOUTS[layout_name].target(model)
    differences = target.differences(model, network.channels, size)
    about = {
        'activation': model.activation,
        'strides': tuple(model.strides),
        'mean': model.normalise.mean,
        'std': model.normalise.std,
        'input_range': (0, 1),
        'layout': layout_name,
        'commit': origin['provenance']['commit'],
    }
    summary = finished and finished.summary
    result = robustbench_result(origin['config'], summary, evaluation)
    paths = {'weights': to, 'card': to.with_suffix('.md')}
    if layout_name == 'robustbench' and result is not None:
        paths['result'] = to.with_suffix('.json')
    page = card(
        network, model, target, to.name, origin, finished, evaluation,
        notes=notes, differences=differences, result=paths.get('result'),
    )  # fmt: skip
    write_state(target.state(network.params, model.normalise), to, about)
    write_text(paths['card'], page)
    if 'result' in paths:
        write_json(paths['result'], result)
    return Exported(paths, differences)


def _evaluation(run: Path, network: Network) -> tuple[dict[str, Any] | None, list[str]]:
    """The contents of RUN/evaluation/evaluation.json, if it is of this network; and what to say."""
    path = run / 'evaluation' / 'evaluation.json'
    if not path.is_file():
        return None, []
    evaluation = read_file(path, read_json)
    ours, theirs = (
        text.rpartition(' at step ')[2]
        for text in (network.description, evaluation['settings']['network'])
    )
    if ours != theirs:
        return None, [f'The run holds an evaluation of step {theirs} and not of this network.']
    return evaluation, []

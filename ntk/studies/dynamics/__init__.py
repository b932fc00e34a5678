"""Probes of war_jax's training runs, measured: kernel drift, input gradients, Lipschitzness.

    along.run(ntk_run.get_config(), run_dir='runs/study', workdir='runs/study/ntk', command='...')

`settings` says what is measured, `runs` of which networks, `measure` has the numbers of one of them
and `work` goes through all; `findings` compares them, `report` writes the page.
"""

from pathlib import Path
from typing import Any

from ntk.studies.dynamics.settings import resolve_along


def run(config: Any, run_dir: str, workdir: str, command: str) -> int:
    """Measures the probes in a run's or a study's folder and writes the report; returns 0.

    config: a ConfigDict or mapping as configs/ntk_run.py has it. workdir: made if it is not there;
    what is measured in it already is not measured again. command: what the user typed.

    Raises ConfigError for a configuration or folder that cannot serve and for a workdir in use,
    DataError for images that cannot be had, ReportError for files that cannot be read, and
    SystemExit(128 + signal number) after SIGINT or SIGTERM; then the same call goes on.
    """
    settings = resolve_along(config)
    # Only now, since JAX takes seconds to import and a typo should be told at once.
    from ntk.studies.dynamics.report import write_report
    from ntk.studies.dynamics.runs import find_runs
    from ntk.studies.dynamics.work import measure_runs
    from war_jax.processes import on_first
    from war_jax.records.interrupt import signals
    from war_jax.records.provenance import lock_workdir

    found = find_runs(Path(run_dir), settings.max_probes)
    with lock_workdir(Path(workdir)), signals() as stop:
        rows = measure_runs(found, settings, Path(workdir), stop)

        def write() -> str:
            return str(write_report(Path(workdir), found, settings, rows, command))

        print(f'report: {on_first(write)}')
    return 0

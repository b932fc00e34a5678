"""What a study of the theorem finds."""

from ntk.studies.theorem.bench import Bench
from ntk.studies.theorem.settings import Settings
from war_jax.lab.experiment import Experiment
from war_jax.lab.page import Section

EXPERIMENT = Experiment(
    'ntk.studies.theorem.findings', Settings, lambda settings: settings.cells, Bench,
    lambda results: (), lambda results: 'Input gradients near the start (Wu et al. 2021)',
    lambda results, found, workdir: [Section('', ['No claim yet.'])],
    folders={'suprema': 'suprema'},
)  # fmt: skip

"""What processes agree on. Oracle: what each of two real ones says; and what was typed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.local import free_port
from war_jax import processes
from war_jax.config_rules import ConfigError
from war_jax.records.interrupt import Stop

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json
from war_jax import processes
from war_jax.config_rules import ConfigError
processes.join('')
import jax, numpy as np
from war_jax.mesh import fetch, make_mesh, replicate, shard
from war_jax.records.interrupt import Stop
from war_jax.records.provenance import WorkdirInUse

number = jax.process_index()
said = {'number': number, 'first': processes.is_first()}
said['largest'] = int(processes.agree(5 + number))
said['told'] = processes.on_first(lambda: {'by': number, 'text': 'a' * 1000})

def failing(error):
    def action():
        raise error
    try:
        processes.on_first(action)
    except Exception as error:
        return [type(error).__name__, str(error)]

said['errors'] = [
    failing(ConfigError('no')), failing(WorkdirInUse('taken')), failing(OSError('full')),
]
processes.check_same('the same', [1, 'a'])
try:
    processes.check_same('numbers', number)
except ConfigError as error:
    said['differ'] = str(error)
stop = Stop()
answers = []
for call in range(5):
    if call == 2 and number == 1:
        stop.signum = 15
    answers.append(stop.poll(ahead=1))
said['answers'] = answers
values = np.arange(12).reshape(4, 3)
mesh = make_mesh()
said['rows'] = fetch(shard(mesh, values)).tolist()
said['mine'] = [int(part.data[0, 0]) for part in shard(mesh, values).addressable_shards]
said['bits'] = int(jax.random.bits(replicate(mesh, jax.random.key(number * 0 + 3))))
processes.wait_for_all()
print(json.dumps(said))
"""


@pytest.fixture(scope='module')
def said() -> list[dict]:
    port = free_port()
    flags = '--xla_force_host_platform_device_count=2'
    started = [
        subprocess.Popen(
            [sys.executable, '-c', SCRIPT],
            cwd=ROOT,
            env={
                **os.environ, 'XLA_FLAGS': flags, 'WAR_JAX_PATIENCE': '600',
                'WAR_JAX_PROCESS': f'{i}/2@127.0.0.1:{port}',
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    return [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]


def test_one_of_them_is_the_first(said):
    assert [each['number'] for each in said] == [0, 1]
    assert [each['first'] for each in said] == [True, False]


def test_what_the_first_one_does_all_are_told(said):
    for each in said:
        assert each['told'] == {'by': 0, 'text': 'a' * 1000}
        assert each['errors'] == [
            ['ConfigError', 'no'], ['WorkdirInUse', 'taken'], ['OSError', 'full'],
        ]  # fmt: skip


def test_they_agree_on_the_largest_and_find_what_differs(said):
    for number, each in enumerate(said):
        assert each['largest'] == 6
        assert each['differ'].startswith(f'numbers of process {number} of 2 differ')


def test_a_signal_to_one_is_heard_by_all_at_the_same_call(said):
    """It came before the third call, whose answer the fourth one returns."""
    assert [each['answers'] for each in said] == [[0, 0, 0, 15, 15]] * 2


def test_arrays_span_them_all(said):
    for each in said:
        assert each['rows'] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert [each['mine'] for each in said] == [[0, 3], [6, 9]]
    assert said[0]['bits'] == said[1]['bits']


def test_a_process_by_itself_asks_nobody():
    assert processes.on_first(lambda: 3) == 3
    processes.check_same('anything', 1)
    stop = Stop()
    assert stop.poll(ahead=2) == 0
    stop.signum = 2
    assert stop.poll(ahead=2) == 2


@pytest.mark.parametrize('text', ['2/2@h:1', '0/1', '1@h:1', '0/2@h', 'a/b@h:1', '-1/2@h:1'])
def test_what_names_no_process_is_refused(text):
    with pytest.raises(ConfigError, match=r'must be i/n@host:port'):
        processes.read_process(text)


def test_where_it_is_one_of_several(monkeypatch):
    for name in ('SLURM_NTASKS', 'SLURM_STEP_NODELIST'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processes, 'glob', lambda pattern: [])
    assert processes.read_process('1/2@host:8476') == (1, 2, 'host:8476')
    assert not processes.on_a_cluster()
    monkeypatch.setenv('SLURM_NTASKS', '4')  # of a batch script: not inside srun
    assert not processes.on_a_cluster()
    monkeypatch.setenv('SLURM_STEP_NODELIST', 'node[1-2]')
    assert processes.on_a_cluster()
    monkeypatch.setenv('SLURM_NTASKS', '1')
    assert not processes.on_a_cluster()
    monkeypatch.setenv('OMPI_MCA_orte_hnp_uri', '1.0;tcp://10.0.0.1:1')
    assert processes.on_a_cluster()

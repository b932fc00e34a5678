"""The launchers for clusters. Oracles: what a stand-in for the cluster's own commands was told, and
the fields of the JobSet and Job interfaces of Kubernetes."""

import os
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from war_jax import command_line, processes
from war_jax.config import resolve
from war_jax.main import main

LAUNCH = Path(__file__).parents[2] / 'launch'
REPOSITORY = 'https://example.org/war-jax'
ARGUMENTS = ['--config=configs/wrn.py:34-10,lambda=6', '--workdir=/shared/my runs/x']


def accepted_by_the_program(words: list[str]) -> None:
    """`python -m war_jax.main` reads them as they are meant, and refuses none."""
    values = command_line.parse(['war_jax.main', *words], main.define)
    assert values.workdir == '/shared/my runs/x'
    if values.process:
        processes.read_process(values.process)
    config = resolve(values.config)
    assert config.model.depth == 34 and config.objective.lam == 6.0


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ['bash', str(LAUNCH / script), *arguments],
        env={'PATH': os.environ['PATH'], 'REPOSITORY': REPOSITORY, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def stand_in(tmp_path):
    """Makes a command that notes its arguments, a line per call, before it runs `body`."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    calls = tmp_path / 'calls'
    calls.touch()

    def make(name: str, body: str) -> dict[str, str]:
        path = folder / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >> {calls}\n{body}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return {'PATH': f'{folder}:{os.environ["PATH"]}', 'CALLS': str(calls)}

    return make


@pytest.mark.parametrize('script', ['slurm.sbatch', 'tpu_pod.sh'])
def test_shell_is_sound(script):
    subprocess.run(['bash', '-n', str(LAUNCH / script)], check=True)
    beside_python = Path(sys.executable).parent
    shellcheck = shutil.which('shellcheck', path=f'{beside_python}:{os.environ["PATH"]}')
    if shellcheck is None:
        pytest.skip('no shellcheck here')
    found = subprocess.run([shellcheck, str(LAUNCH / script)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_slurm_dry_run():
    done = run('slurm.sbatch', '--dry-run', *ARGUMENTS, PYTHON='python')
    words = shlex.split(done.stdout)
    assert words[0] == 'srun' and words[-5:] == ['python', '-m', 'war_jax.main', *ARGUMENTS]
    accepted_by_the_program(words[-2:])


@pytest.mark.parametrize(
    ('code', 'restarts', 'queued'),
    [(0, 0, 0), (1, 0, 0), (2, 0, 0), (75, 0, 1), (143, 3, 1), (137, 0, 1), (143, 100, 0)],
)
def test_slurm_goes_back_into_the_queue_where_that_can_help(stand_in, code, restarts, queued):
    stand_in('scontrol', '')
    environment = stand_in('srun', f'exit {code}')
    done = run(
        'slurm.sbatch', *ARGUMENTS, **environment, SLURM_JOB_ID='77',
        SLURM_RESTART_COUNT=str(restarts),
    )  # fmt: skip
    assert done.returncode == code
    calls = Path(environment['CALLS']).read_text()
    assert calls.count('srun') == 1
    assert calls.count('scontrol requeue 77') == queued


def test_tpu_dry_run():
    done = run('tpu_pod.sh', '--dry-run', *ARGUMENTS, ZONE='z', ACCELERATOR='v5p-32')
    create, install, work, remove = (shlex.split(line) for line in done.stdout.splitlines())
    assert create[:5] == ['gcloud', 'compute', 'tpus', 'queued-resources', 'create']
    assert {'--zone=z', '--accelerator-type=v5p-32', '--spot'} <= set(create)
    assert f'git clone {REPOSITORY}' in install[-1]
    assert '--worker=all' in work
    program = shlex.split(work[-1].removeprefix('--command=').partition(';')[0])
    assert program == ['cd', 'war-jax', '&&', '.venv/bin/python', '-m', 'war_jax.main', *ARGUMENTS]
    accepted_by_the_program(program[6:])
    assert remove[4] == 'delete'


def test_tpu_dry_run_shows_a_placeholder_for_what_is_not_set():
    done = run('tpu_pod.sh', '--dry-run', *ARGUMENTS, REPOSITORY='')
    assert done.returncode == 0, done.stderr
    assert 'git clone REPOSITORY_ADDRESS war-jax' in shlex.split(done.stdout.splitlines()[1])[-1]
    refused = run('tpu_pod.sh', *ARGUMENTS, REPOSITORY='')
    assert refused.returncode == 1
    assert 'REPOSITORY: the address that git clones' in refused.stderr


# A slice that is asked for, and is preempted in the middle of the first start.
PREEMPTED = """
here=$(dirname "$CALLS")
case "$*" in
  *create*) echo ACTIVE > $here/state ;;
  *describe*) test -e $here/state && cat $here/state ;;
  *delete*) rm $here/state ;;
  *war_jax.main*)
    echo start >> $here/starts
    if [ $(wc -l < $here/starts) = 1 ]; then
      echo SUSPENDED > $here/state; echo 'exit code: 143'; exit 1
    fi
    echo "exit code: $CODE" ;;
esac
"""


@pytest.mark.parametrize(('code', 'ends_with', 'deleted'), [('0', 0, 2), ('2', 1, 1)])
def test_tpu_pod_survives_a_preemption(stand_in, tmp_path, code, ends_with, deleted):
    environment = stand_in('gcloud', PREEMPTED)
    done = run('tpu_pod.sh', *ARGUMENTS, **environment, SECONDS_BETWEEN_LOOKS='0.01', CODE=code)
    assert done.returncode == ends_with, done.stderr
    assert 'starting again' in done.stderr
    calls = Path(environment['CALLS']).read_text()
    assert calls.count('queued-resources create') == 2
    assert calls.count('queued-resources delete') == deleted
    assert (tmp_path / 'starts').read_text().count('start') == 2


def test_jobset_has_the_fields_that_its_interface_asks_for():
    text = (LAUNCH / 'gke_jobset.yaml').read_text()
    assert text.count('ARGUMENTS') == 2  # in the header's command and in its place
    rendered = text.replace('ARGUMENTS', shlex.join(ARGUMENTS))
    jobset = yaml.safe_load(rendered)
    assert (jobset['apiVersion'], jobset['kind']) == ('jobset.x-k8s.io/v1alpha2', 'JobSet')
    assert jobset['spec'].keys() == {'failurePolicy', 'replicatedJobs'}
    policy = jobset['spec']['failurePolicy']
    assert policy['rules'] == [
        {'action': 'FailJobSet', 'onJobFailureReasons': ['PodFailurePolicy']}
    ]
    [replicated] = jobset['spec']['replicatedJobs']
    assert replicated.keys() == {'name', 'replicas', 'template'}
    job = replicated['template']['spec']
    assert job.keys() == {
        'parallelism', 'completions', 'completionMode', 'backoffLimit', 'podFailurePolicy',
        'template',
    }  # fmt: skip
    assert job['completionMode'] == 'Indexed'
    [rule] = job['podFailurePolicy']['rules']
    assert rule['action'] == 'FailJob' and rule['onExitCodes']['values'] == [1, 2]
    pod = job['template']['spec']
    assert pod['restartPolicy'] == 'Never'  # which a podFailurePolicy requires
    [container] = pod['containers']
    assert rule['onExitCodes']['containerName'] == container['name']
    names = {volume['name'] for volume in pod['volumes']}
    assert {mount['name'] for mount in container['volumeMounts']} <= names
    assert container['command'] == ['sh', '-c']
    words = shlex.split(container['args'][0])
    assert words[:4] == ['exec', 'python', '-m', 'war_jax.main']
    name, workers = jobset['metadata']['name'], replicated['name']
    hosts = job['parallelism']
    address = f'{name}-{workers}-0-0.{name}:8476'
    assert words[4] == f'--process=$JOB_COMPLETION_INDEX/{hosts}@{address}'
    assert hosts == job['completions']
    assert words[5:] == ARGUMENTS
    accepted_by_the_program([words[4].replace('$JOB_COMPLETION_INDEX', str(hosts - 1)), *ARGUMENTS])

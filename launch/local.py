"""Starts several processes of one job on this machine: for tests, and for several GPUs.

    python launch/local.py --processes=2 --devices_per_process=2 -- \\
        --config=configs/digits.py --workdir=runs/two
    python launch/local.py --processes=8 --gpus -- --config=configs/wrn.py:34-10 --workdir=runs/x
    python launch/local.py --program=war_jax.evaluate --processes=2 -- --checkpoint=runs/two

What stands behind `--` goes to the program, the same to all. SIGINT and SIGTERM are passed on to
all processes, which stop at the same step with a checkpoint. If one ends with an error, the others
have --patience seconds to end by themselves. With --restarts the job is started again where that
can help: not after 0 (done), 1 (failed) or 2 (refused), nor after a signal to this launcher.
Exit code: 0, or that of the process to blame.
"""

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

FINAL = (0, 1, 2)  # exit codes after which the same command would end in the same way
BLAME = (2, 1)  # said by one process, these explain what the others say


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--program', default='war_jax.main', help='as in python -m PROGRAM')
    add('--processes', type=int, required=True)
    add('--devices_per_process', type=int, default=0, help='CPU devices of each; 0: its default')
    add('--gpus', action='store_true', help='process i sees GPU i alone')
    add('--restarts', type=int, default=0, help='how often the job is started again at most')
    add('--patience', type=float, default=90.0, help='seconds, see above')
    add('--dry-run', action='store_true', help='print the commands, start nothing')
    add('arguments', nargs='*', help='of the program, behind --')
    return parser.parse_args(argv)


def environment(options: argparse.Namespace, number: int, port: int) -> dict[str, str]:
    """What is set for process `number`, beyond what this process has."""
    place = f'{number}/{options.processes}@127.0.0.1:{port}'
    result = {'WAR_JAX_PROCESS': place}
    if options.devices_per_process:
        count = f'--xla_force_host_platform_device_count={options.devices_per_process}'
        others = os.environ.get('XLA_FLAGS', '').split()
        kept = [flag for flag in others if 'host_platform_device_count' not in flag]
        result['XLA_FLAGS'] = ' '.join([*kept, count])
        # XLA's threads, as many as one process with all devices would have: how a convolution's
        # sum is split depends on it, and with it the last bits of everything.
        devices = options.processes * options.devices_per_process
        result['NPROC'] = str(max(devices, cores()))
    if options.gpus:
        result['CUDA_VISIBLE_DEVICES'] = str(number)
    return result


def cores() -> int:
    """As many as XLA counts: those that this process, and what it starts, may run on."""
    if 'NPROC' in os.environ:
        return int(os.environ['NPROC'])
    affinity = getattr(os, 'sched_getaffinity', None)  # Linux has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def command(options: argparse.Namespace) -> list[str]:
    return [sys.executable, '-m', options.program, *options.arguments]


class Job:
    """The processes of one start."""

    def __init__(self, options: argparse.Namespace):
        port = free_port()
        self.processes = [
            subprocess.Popen(
                command(options),
                env={**os.environ, **environment(options, number, port)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches them once, by way of this launcher
            )
            for number in range(options.processes)
        ]
        self.readers = [
            threading.Thread(target=relay, args=(number, process))
            for number, process in enumerate(self.processes)
        ]
        for reader in self.readers:
            reader.start()

    def send(self, signum: int) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signum)

    def wait(self, patience: float) -> list[int]:
        """The exit codes, as a shell gives them, once all have ended."""
        deadline = None
        while any(process.poll() is None for process in self.processes):
            failed = any(process.poll() for process in self.processes)
            if failed and deadline is None:
                deadline = time.monotonic() + patience
            if deadline is not None and time.monotonic() > deadline:
                self.send(signal.SIGKILL)
            time.sleep(0.1)
        for reader in self.readers:
            reader.join()
        codes = [process.returncode for process in self.processes]
        return [128 - code if code < 0 else code for code in codes]


def relay(number: int, process: subprocess.Popen) -> None:
    """Each line of its output behind its number."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            sys.stdout.write(f'[{number}] {line.decode(errors="replace")}')
            sys.stdout.flush()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def to_blame(codes: Sequence[int]) -> int:
    """One exit code for all."""
    return next((code for code in BLAME if code in codes), max(codes))


def main(argv: Sequence[str]) -> int:
    options = parse(argv)
    if options.dry_run:
        for number in range(options.processes):
            settings = environment(options, number, 8476)
            words = [f'{name}={shlex.quote(value)}' for name, value in settings.items()]
            print(' '.join([*words, shlex.join(command(options))]))
        return 0
    told: list[int] = []
    jobs: list[Job] = []

    def pass_on(signum: int, _: object) -> None:
        told.append(signum)
        for job in jobs[-1:]:
            job.send(signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, pass_on)
    for start in range(options.restarts + 1):
        jobs.append(Job(options))
        code = to_blame(jobs[-1].wait(options.patience))
        if code in FINAL or told or start == options.restarts:
            break
        print(f'launch: exit code {code}; starting the job again', flush=True)
    return code


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))

"""Which classes of RobustBench's CIFAR model zoo are read, and whether their logits are ours.

    python -m benchmarks.robustbench_classes                   # a table in Markdown, some minutes
    python -m benchmarks.robustbench_classes --only=PreAct     # entries with this in their names

Wants PyTorch and the robustbench package (pip install
git+https://github.com/RobustBench/robustbench, with torch, torchvision, timm, torchdiffeq and
geotorch). Weights and BatchNorm's statistics are drawn at random. Entries of the zoo that are of
the same class with the same kinds of layers stand in one row, of which the one with the fewest
parameters is made, saved by PyTorch and read by `war_jax.load_torch`.

A row says `equal` where logits of two random images agree to 1e-4 of the largest one, in float32
on both sides, under which options where any are needed; `refused` with our reason; `different`, or
`not made` with RobustBench's reason.
"""

import argparse
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import war_jax
from war_jax.config_rules import ConfigError
from war_jax.lab import tables
from war_jax.models.normalisation import usual

TOLERANCE = 1e-4
IMAGES = np.random.RandomState(0).uniform(size=(2, 32, 32, 3)).astype(np.float32)
CONSTANTS = ('mu', 'sigma', 'mean', 'std')
# Each program runs once: it is compiled as quickly as can be.
once = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


class Entry(NamedTuple):
    """name: in the zoo, with data set and threat. parameters: how many."""

    name: str
    make: Callable[[], Any]
    parameters: int


def entries(only: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """'cifar10/Linf/Rice2020Overfitting' and what makes the network."""
    from robustbench.model_zoo.cifar10 import cifar_10_models  # pyright: ignore
    from robustbench.model_zoo.cifar100 import cifar_100_models  # pyright: ignore

    for data, zoo in (('cifar10', cifar_10_models), ('cifar100', cifar_100_models)):
        for threat, models in zoo.items():
            for name, about in models.items():
                if only in name:
                    yield f'{data}/{threat.value}/{name}', about['model']


def kind(name: str, model: Any) -> str:
    """The class, its blocks' classes and its arrays' names but for their numbers."""
    classes = sorted({type(module).__name__ for module in model.modules()})
    arrays = sorted({re.sub(r'\d+', '', array) for array in model.state_dict()})
    return '/'.join([name.partition('/')[0], type(model).__name__, *classes, *arrays])


def groups(only: str) -> tuple[dict[str, list[Entry]], dict[str, str]]:
    """Entries by kind, and those that cannot be made, with the reason."""
    import torch  # pyright: ignore

    found: dict[str, list[Entry]] = {}
    failed: dict[str, str] = {}
    for name, make in entries(only):
        try:
            with torch.device('meta'):  # shapes alone
                model = make()
            parameters = sum(p.numel() for p in model.parameters())
            found.setdefault(kind(name, model), []).append(Entry(name, make, parameters))
        except Exception as error:  # whatever another package raises
            failed[name] = _brief(error)
    return found, failed


def drawn(state: dict[str, Any]) -> dict[str, Any]:
    """Random values of ordinary size for all but counters and the normalisation of images."""
    import torch  # pyright: ignore

    torch.manual_seed(0)

    def draw(name: str, tensor: Any) -> Any:
        leaf, shape = name.rpartition('.')[2], tuple(tensor.shape)
        if leaf in CONSTANTS or not tensor.is_floating_point():
            return tensor
        if len(shape) > 1:
            return torch.randn(shape) * (1.2 / np.prod(shape[1:])) ** 0.5
        low, high = (0.5, 1.5) if leaf in ('running_var', 'weight') else (0.05, 0.4)
        return low + (high - low) * torch.rand(shape)

    return {name: draw(name, tensor) for name, tensor in state.items()}


def compared(entry: Entry, folder: Path) -> tuple[str, str, str]:
    """What is said of its class, the largest difference of its logits, and the largest logit."""
    import torch  # pyright: ignore

    path = folder / 'network.pt'
    try:
        model = entry.make().eval()
        model.load_state_dict(drawn(model.state_dict()))
        torch.save(model.state_dict(), path)
        war_jax.load_torch(path)
        with torch.no_grad():
            theirs = model(torch.as_tensor(IMAGES).permute(0, 3, 1, 2)).numpy()
    except ConfigError as error:
        return f'refused: {str(error).partition(": ")[2][:160]}', '—', '—'
    except Exception as error:  # whatever another package raises
        return f'not made: {_brief(error)}', '—', '—'
    del model
    largest = float(np.abs(theirs).max())
    tries: list[dict[str, Any]] = [
        {},
        *(
            {'normalize': 'per_image'} if each.per_image else {'mean': each.mean, 'std': each.std}
            for each in usual(3)
        ),
        {'activation': 'relu'},
        {'activation': 'swish'},
    ]
    nearest = np.inf
    for options in tries:
        network = war_jax.load_torch(path, **options)
        ours = np.asarray(once(network.classify)(network.params, IMAGES))
        difference = float(np.abs(ours - theirs).max())
        nearest = min(nearest, difference)
        if difference <= TOLERANCE * largest:
            said = ', '.join(f'{name}={value}' for name, value in options.items())
            outcome = f'equal{f" with {said}" if said else ""}'
            return outcome, f'{difference:.1e}', f'{largest:.1e}'
    return 'different', f'{nearest:.1e}', f'{largest:.1e}'


def _brief(error: Exception) -> str:
    return f'{type(error).__name__}: {" ".join(str(error).split())[:80]}'


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--only', default='', help='part of the name of the entries to compare')
    found, failed = groups(parser.parse_args().only)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, listed) in enumerate(found.items(), start=1):
            entry = min(listed, key=lambda entry: entry.parameters)
            print(f'{number}/{len(found)} {entry.name}', flush=True)
            data, class_name, *_ = name.split('/')
            outcome = compared(entry, Path(folder))
            rows.append((class_name, data, len(listed), entry.name, *outcome))
            print(*rows[-1], flush=True)
    rows += [
        ('—', name.partition('/')[0], 1, name, f'not made: {why}', '—', '—')
        for name, why in failed.items()
    ]
    header = ('Class', 'Data', 'Entries', 'Compared', 'Outcome')
    header += ('Largest difference', 'Largest logit')
    print(tables.markdown(header, rows, 'llrllrr'))


if __name__ == '__main__':
    main()

"""Names of a package that are loaded when they are first used.

    __getattr__, __dir__ = on_demand(__name__, globals(), {'train': 'war_jax.from_python'})

The package itself then imports in a hundredth of a second, and no JAX.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def on_demand(
    package: str, names: dict[str, Any], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__` (PEP 562).

    names: the package's globals(), which keep what was loaded. homes: name -> the module that has
    it; a subpackage is at home in itself.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        module = import_module(homes[name])
        value = module if homes[name] == f'{package}.{name}' else getattr(module, name)
        names[name] = value
        return value

    return get, lambda: sorted({*names, *homes})

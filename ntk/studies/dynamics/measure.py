"""All that is measured of one probe.

    measures = NetworkMeasures(config, splits, settings, mesh)   # compiled once for all of a shape
    start = measures.start(read_probe(probes[0]))                # what others are compared with
    first = measures.measure(start.variables, start, key)
    row = measures.measure(read_probe(probes[120]), start, key)

What each number is stands at its key in `war_jax.lab.quantities`.

With batch_norm = 'inference' the network is the one that an attack meets: its norms use the running
statistics. With 'batch' they use the moments of the training images measured on, as a training step
would. The derivatives in the kernel then go through these moments, as the gradients of training do;
everything else takes them as running statistics (with the unbiased variance that these hold, where
a training step has the biased one).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ntk.empirical import alignment, empirical_ntk, kernel_distance
from ntk.functional import functional, functional_on_batch
from ntk.gradients import dual, loss_gradient_norms, output_gradient_norms
from ntk.spectral import lipschitz_bound
from ntk.studies.dynamics.settings import Settings
from war_jax.attacks.losses import cross_entropy
from war_jax.attacks.pgd import Budget
from war_jax.attacks.threat import ThreatModel
from war_jax.config import Config, EvaluationConfig
from war_jax.data.batches import Batch, eval_plan
from war_jax.data.device import DeviceData, as_unit_interval
from war_jax.data.sources import Dataset, Splits, balanced_subset
from war_jax.measures.network import make_measures, validate
from war_jax.mesh import AXIS, fetch, replicate
from war_jax.models import forward
from war_jax.training.networks import make_model

SPLITS = ('train', 'test')
# Of the two rates under attack, robust accuracy follows from what is kept and stability.
_KEPT = (
    'natural_accuracy', 'robust_accuracy', 'local_lipschitz', 'local_lipschitz_kl_gradient',
)  # fmt: skip
OnPart = Callable[[], object]


class Start(NamedTuple):
    """The first probe of a run."""

    variables: forward.Variables
    kernel: np.ndarray  # (n, n)


class NetworkMeasures:
    """Measures networks of one shape on the same images and against the same attack."""

    def __init__(self, config: Config, splits: Splits, settings: Settings, mesh: Mesh):
        model = make_model(config, splits.num_classes)
        # As war_jax measures: not in bfloat16, whose rounding is as large as a perturbation.
        self.model = model.clone(axis_name=None, dtype=model.param_dtype)
        self.settings, self.mesh = settings, mesh
        threat = ThreatModel(config.threat.norm, config.threat.epsilon)
        budget = attack_budget(config.evaluation, settings.attack_steps)
        self.measures = make_measures(self.model, mesh, threat, budget)
        images = {
            'train': subset(splits.train, settings.num_train),
            'test': subset(splits.test, settings.num_test),
        }
        self.num_examples = {split: len(some.labels) for split, some in images.items()}
        self.data = {split: DeviceData(mesh, some) for split, some in images.items()}
        largest = min(config.evaluation.batch_size, max(self.num_examples.values()))
        batch_size = -(-largest // mesh.size) * mesh.size  # the same, so that one program serves
        self.plans = {split: eval_plan(n, batch_size) for split, n in self.num_examples.items()}
        pixels = jnp.asarray(images['train'].images)
        self.images = np.asarray(as_unit_interval(pixels, self.model.param_dtype))
        self.labels_kernel = centred_labels_kernel(images['train'].labels, splits.num_classes)
        self.input_gradients = self._make_input_gradients(config.threat.norm)
        self.moments = jax.jit(partial(forward.train, self.model))

    def start(self, variables: forward.Variables, on_part: OnPart = lambda: None) -> Start:
        return Start(variables, self.kernel(variables, on_part))

    def measure(
        self, variables: forward.Variables, start: Start, key: Array, on_part: OnPart = lambda: None
    ) -> dict[str, float]:
        """variables: of a probe, NumPy. on_part: called often, and may raise to end it."""
        is_first = variables is start.variables
        kernel = start.kernel if is_first else self.kernel(variables, on_part)
        weights, first_weights = _flat(variables), _flat(start.variables)
        evaluated = replicate(self.mesh, self.evaluated(variables))
        row = {
            'kernel_drift': kernel_distance(kernel, start.kernel),
            'kernel_alignment': alignment(kernel, start.kernel),
            'label_alignment': alignment(centred(kernel), self.labels_kernel),
            'kernel_trace': float(np.trace(kernel)) / len(kernel),
            'weight_movement': float(
                np.linalg.norm(weights - first_weights) / np.linalg.norm(first_weights)
            ),
            'spectral_product': lipschitz_bound(
                self.model, evaluated, self.images.shape[1:]
            ).bound,
        }
        for split in SPLITS:
            on_part()
            found = self.on_images(split, evaluated, key, on_part)
            row |= {f'{name}_{split}': value for name, value in found.items()}
        return row

    def kernel(self, variables: forward.Variables, on_part: OnPart = lambda: None) -> np.ndarray:
        """(n, n) on the training images, the mean over the outputs."""
        if self.settings.batch_norm == 'batch':
            reference = jnp.asarray(self.images)
            f, params = functional_on_batch(self.model, variables, reference)
        else:
            f, params = functional(self.model, variables, train=False)
        block_size = self.settings.block_size or None
        return empirical_ntk(
            f,
            params,
            self.images,
            block_size=block_size,
            mesh=self.mesh,
            on_block=lambda *_: on_part(),
        )

    def evaluated(self, variables: forward.Variables) -> forward.Variables:
        """With the statistics that are asked for."""
        if self.settings.batch_norm == 'inference':
            return variables
        everything = np.ones(len(self.images), bool)
        _, moments = self.moments(variables, self.images, everything)
        return {'params': variables['params'], 'batch_stats': moments}

    def on_images(
        self, split: str, evaluated: forward.Variables, key: Array, on_part: OnPart
    ) -> dict[str, float]:
        data, plan = self.data[split], self.plans[split]
        parts = []
        for indices, mask in zip(plan.indices, plan.mask, strict=True):
            found = fetch(self.input_gradients(evaluated, data.batch(indices, mask)))
            parts.append([np.asarray(values, np.float64)[mask] for values in found])
            on_part()
        outputs, losses, risks = (np.concatenate(part) for part in zip(*parts, strict=True))
        attacked = validate(self.measures, evaluated, key, data, plan, on_part)
        return {
            'output_gradient': float(np.sqrt(np.square(outputs).mean())),
            'loss_gradient': float(losses.mean()),
            'natural_risk': float(risks.mean()),
            **{name: attacked[name] for name in _KEPT},
        }

    def _make_input_gradients(self, norm: str) -> Callable[..., tuple[Array, Array, Array]]:
        """(variables, batch) -> norms (b, k) by output, norms (b,) of the loss, the loss (b,)."""

        def of_device(variables: forward.Variables, batch: Batch) -> tuple[Array, Array, Array]:
            x = as_unit_interval(batch.images, self.model.param_dtype)

            def f(z: Array) -> Array:
                return forward.evaluate(self.model, variables, z)

            def loss(logits: Array) -> Array:
                return cross_entropy(logits, batch.labels)

            return (
                output_gradient_norms(f, x),
                loss_gradient_norms(f, loss, x, dual(norm)),
                loss(f(x)),
            )

        # No sums over devices: what check_vma looks for cannot go wrong, and it refuses the units
        # that are pulled back, which are the same on all devices.
        program = jax.shard_map(
            of_device,
            mesh=self.mesh,
            in_specs=(P(), P(AXIS)),
            out_specs=P(AXIS),
            check_vma=False,
        )
        return jax.jit(program)


def attack_budget(evaluation: EvaluationConfig, num_steps: int) -> Budget:
    """That of the run's evaluation, or `num_steps` > 0 steps that together are as long."""
    num_steps = num_steps or evaluation.num_steps
    step_size = evaluation.step_size * evaluation.num_steps / num_steps
    return Budget(num_steps, step_size, evaluation.init, evaluation.init_scale)


def subset(dataset: Dataset, at_most: int) -> Dataset:
    return dataset.take(balanced_subset(dataset.labels, at_most))


def centred(kernel: np.ndarray) -> np.ndarray:
    """H K H with H = 1 - 1/n: the kernel of features minus their mean over the examples."""
    kernel = np.asarray(kernel, np.float64)
    return kernel - kernel.mean(0) - kernel.mean(1, keepdims=True) + kernel.mean()


def centred_labels_kernel(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(n,) -> (n, n): Y Y^T, Y the one-hot labels minus their mean."""
    one_hot = np.eye(num_classes)[labels]
    return centred(one_hot @ one_hot.T)


def _flat(variables: forward.Variables) -> np.ndarray:
    """(P,) float64: all weights in a row."""
    return np.asarray(ravel_pytree(variables['params'])[0], np.float64)

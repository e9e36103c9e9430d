"""One cell of the accuracy table: convert, classify, compare with the labels and with the ANN."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_cells import CellFolder, Key, Result, sha256_of
from accuracy_recipes import depends_on_steps, describe, recipe_of, serves
from torch import Tensor, nn
from torch.export import ExportedProgram

from icsnn_deploy import __version__, convert
from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.ann_graph import to_ann_graph
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.conversion import Conversion
from icsnn_deploy.conversion.frontend.declared import DeclaredActivation
from icsnn_deploy.data import Normalization, load_images, load_labels
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Node
from icsnn_deploy.progress import Progress, tracked
from icsnn_deploy.report.layers import OutputFit, first_spikes

BATCH = 50
POINTS = 400  # neurons that a figure shows of a layer


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where samples are, as FILE.npz:array.

    calibration_labels: of the calibration samples, for recipes that train on labels.
    """

    calibration: str
    images: str
    labels: str
    calibration_labels: str | None = None

    def hashes(self) -> dict[str, str]:
        """sha256 of each file."""
        return {name: sha256_of(self.path(spec)) for name, spec in vars(self).items() if spec}

    @staticmethod
    def path(spec: str) -> Path:
        """The file of a spec."""
        return Path(spec if spec.endswith(".npy") else spec.rpartition(":")[0])


class Measurement:
    """A network and its data, ready to be measured with one recipe after the other."""

    def __init__(
        self,
        model: nn.Module | ExportedProgram,
        sources: Sources,
        normalization: Normalization | None,
        *,
        calibration_samples: int,
        limit: int,
        cells: CellFolder,
        device: str,
        progress: Progress,
        activations: Sequence[DeclaredActivation] = (),
    ) -> None:
        self.model, self.normalization, self.activations = model, normalization, activations
        self.device, self.progress, self.cells = device, progress, cells
        self.calibration = load_images(sources.calibration, normalization)[:calibration_samples]
        self.calibration_labels: Array | None = None
        if sources.calibration_labels is not None:
            count = len(self.calibration)
            self.calibration_labels = load_labels(sources.calibration_labels, count)[:count]
        self.images = load_images(sources.images, normalization)[:limit]
        self.labels = load_labels(sources.labels, len(self.images))[: len(self.images)]
        self.hashes = sources.hashes()
        ann = to_ann_graph(model, self.calibration, normalization, activations)
        self.ann_hash = ann.hash()
        network = TorchANN(ann, device=device)
        parts = [network.run(batch) for batch in self.batches("ANN")]
        self.ann_classes = np.concatenate(parts).argmax(axis=1)

    def batches(self, stage: str) -> list[Array]:
        starts = range(0, len(self.images), BATCH)
        cut = [self.images[start : start + BATCH] for start in starts]
        return list(tracked(cut, stage, len(cut), self.progress))

    def key(self, recipe: Recipe, time_steps: int) -> Key:
        """Rows of different names and equal methods share their cells."""
        return Key(
            ann=self.ann_hash,
            calibration=self.hashes["calibration"],
            calibration_samples=len(self.calibration),
            images=self.hashes["images"],
            labels=self.hashes["labels"],
            limit=len(self.images),
            recipe=describe(recipe),
            time_steps=time_steps,
            software=f"icsnn-deploy {__version__}",
        )

    def convert(self, recipe: Recipe) -> tuple[Conversion, float]:
        """The network of a recipe, and the seconds that took."""
        labels = self.calibration_labels
        labeled = recipe.strategy.uses_labels and labels is not None
        started = time.monotonic()
        conversion = convert(
            self.model,
            (self.calibration, labels) if labeled else self.calibration,
            recipe,
            normalization=self.normalization,
            activations=self.activations,
            device=self.device,
            progress=self.progress,
        )
        return conversion, time.monotonic() - started

    def cells_of(
        self, name: str, time_steps: list[int], *, again: bool = False
    ) -> dict[int, Result]:
        """The cells of one row; those that are missing, or all again, are measured and kept."""
        recipes = {t: recipe_of(name, t) for t in time_steps}
        recipes = {t: recipe for t, recipe in recipes.items() if serves(recipe, t)}
        found = {t: self.cells.find(self.key(recipe, t)) for t, recipe in recipes.items()}
        missing = [t for t, result in found.items() if again or result is None]
        if missing and depends_on_steps(recipes[missing[0]]):
            for t in missing:
                found.update(self._measure(name, recipes[t], [t]))
        elif missing:
            found.update(self._measure(name, recipes[max(missing)], missing))
        return {t: result for t, result in found.items() if result is not None}

    def layers_of(self, name: str, t: int, folder: CellFolder) -> dict[str, Any]:
        """First spikes and outputs of every layer, on the first batch; kept in a folder of theirs.

        Returns:
            by layer: first_spike (step or None), silent (share), r_squared (or None), and points,
            activations and outputs of some neurons, drawn at random.
        """
        key = replace(self.key(recipe_of(name, t), t), limit=min(BATCH, len(self.images)))
        found = folder.find(key)
        if found is not None and found.layers is not None:
            return found.layers
        conversion, convert_s = self.convert(recipe_of(name, t))
        images = self.images[:BATCH]
        started = time.monotonic()
        recording = TorchSimulator(conversion.network, device=self.device).run(
            images, Record(spikes=False, counts=True, first_spikes=True)
        )
        layers = compare_layers(conversion, recording, images)
        classes, labels = recording.logits.argmax(axis=1), self.labels[:BATCH]
        result = Result(
            images=len(images),
            correct=int((classes == labels).sum()),
            ann_correct=int((self.ann_classes[:BATCH] == labels).sum()),
            agree=int((classes == self.ann_classes[:BATCH]).sum()),
            convert_s=round(convert_s, 2),
            run_s=round(time.monotonic() - started, 2),
            converted_at=t,
            method=conversion.report.chosen.method,
            name=name,
            layers=layers,
        )
        folder.keep(key, result)
        return layers

    def _measure(self, name: str, recipe: Recipe, time_steps: list[int]) -> Mapping[int, Result]:
        """Convert once, run once, and read the logits after each of the numbers of steps."""
        conversion, convert_s = self.convert(recipe)
        started = time.monotonic()
        simulator = TorchSimulator(conversion.network, device=self.device)
        wanted = Record(spikes=False, logits_t=True)
        classes = []
        starts = range(0, len(self.images), BATCH)
        for start in tracked(starts, "classify", len(starts), self.progress):
            logits_t = simulator.run(self.images[start : start + BATCH], wanted).logits_t
            assert logits_t is not None
            classes.append(logits_t.argmax(axis=-1))  # [T, B]
        over_time = np.concatenate(classes, axis=1)
        run_s = time.monotonic() - started
        results = {}
        for t in time_steps:
            results[t] = Result(
                images=len(self.images),
                correct=int((over_time[t - 1] == self.labels).sum()),
                ann_correct=int((self.ann_classes == self.labels).sum()),
                agree=int((over_time[t - 1] == self.ann_classes).sum()),
                convert_s=round(convert_s, 2),
                run_s=round(run_s, 2),
                converted_at=recipe.steps,
                method=conversion.report.chosen.method,
                name=name,
            )
            self.cells.keep(self.key(recipe, t), results[t])
        return results


def compare_layers(conversion: Conversion, recording: Recording, images: Array) -> dict[str, Any]:
    """Each population beside the rectifier it comes from (Measurement.layers_of)."""
    populations = {node.name: node for node in conversion.network.nodes_of(IF)}
    spiking = {found.layer: found for found in first_spikes(recording)}
    rng = np.random.default_rng(0)
    layers: dict[str, Any] = {}

    def observe(node: Node, value: Tensor) -> None:
        if node.name not in spiking:
            return
        rate = recording.counts[node.name] / conversion.network.steps
        activation, output = value.numpy(), rate * populations[node.name].v_threshold
        fit = OutputFit()
        fit.add(activation, output)
        drawn = rng.integers(0, activation.size, POINTS)
        layers[node.name] = {
            "first_spike": spiking[node.name].mean,
            "silent": spiking[node.name].silent,
            "r_squared": fit.r_squared,
            "points": [
                [float(f"{number:.4g}") for number in values.reshape(-1)[drawn]]
                for values in (activation, output)
            ],
        }

    TorchANN(conversion.ann).run(images, observe)
    return layers

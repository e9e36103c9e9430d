"""What a network predicts for samples: the logits of its outputs, and their classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from icsnn_deploy.graph.arrangement import named_outputs, output_tasks, split_outputs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.readout import decided_classes
from icsnn_deploy.graph.tasks import CLASS_TASKS


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """The outputs of a network for N samples.

    `logits` and `classes` are those of the only output; of several outputs, see `outputs` and
    `output_classes`.

    Args:
        outputs: by the name of the output, [N, *output shape], in the units of the model. The
            operation that is left to the host (softmax, sigmoid) is not applied.
        output_classes: class indices of the outputs that are classes: of a classification [N], of
            binary decisions [N, *output shape], of a segmentation [N, *positions].
    """

    outputs: Mapping[str, Array]
    output_classes: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph, logits: Array) -> Prediction:
        """The prediction that the logits of a graph stand for, [N, *graph output]."""
        units = split_outputs(graph, logits)  # in which a threshold of 0 and an order are the same
        return cls(
            outputs=named_outputs(graph, logits),
            output_classes={
                name: decided_classes(task, units[name])
                for name, task in output_tasks(graph).items()
                if task in CLASS_TASKS
            },
        )

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in self.outputs.items())
        classes = ", ".join(self.output_classes) or "none"
        return f"<Prediction: {len(self)} samples, {shapes}; classes of {classes}>"

    def __len__(self) -> int:
        return len(next(iter(self.outputs.values())))

    @property
    def logits(self) -> Array:
        """The values of the only output, [N, *output shape]; ValueError if it has several."""
        return _only(self.outputs, "outputs", self.outputs)

    @property
    def classes(self) -> Array:
        """The classes of the only output; raises ValueError if it has several, or no classes."""
        return _only(self.output_classes, "output_classes", self.outputs)


def _only(values: Mapping[str, Array], name: str, outputs: Mapping[str, Array]) -> Array:
    if len(outputs) > 1:
        raise ValueError(f"the network has the outputs {', '.join(outputs)}; take one of .{name}")
    if not values:
        raise ValueError("the output of this network is numbers, not classes; take .logits")
    return next(iter(values.values()))

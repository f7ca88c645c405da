"""Losses against a label of the row: binary cross-entropy, cross-entropy, squared error."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from embedkit.data.codec import Codec
from embedkit.errors import UsageError
from embedkit.nn.gather import shards
from embedkit.training.loss import Forward, Loss, LossContext, LossResult, Needs, Step, zero
from embedkit.training.weights import require_weight, row_weights
from embedkit_prediction.configs import BinaryCrossEntropyConfig, CrossEntropyConfig, LabelLossConfig, SquaredErrorConfig
from embedkit_prediction.labels import Binary, class_names, require_label, require_number


class LabelLoss(Loss):
    """Base: a weighted mean, over the rows that have a label, of a loss between a tower's output and the label.

    The output is the head's before any normalisation, so the head must do none.
    """

    config: LabelLossConfig
    name: str

    def __init__(self, config: LabelLossConfig, *, context: LossContext) -> None:
        super().__init__(config, context=context)
        require_label(context.schema.fields, config.label, self.name)
        if context.normalized.get(config.tower, False):
            raise UsageError(
                f"{self.name}: the head of tower '{config.tower}' brings vectors to unit length, which no prediction has: "
                "use head linear with normalize = false"
            )
        self.view = config.view or context.views[0]
        self.width = self.outputs_of(context.codecs[config.label])
        found = context.tower_dims[config.tower]
        if found != self.width:
            raise UsageError(
                f"{self.name}: tower '{config.tower}' gives {found} numbers a row and label '{config.label}' wants {self.width}: "
                f"set dim = {self.width} in its head"
            )
        require_weight(context.schema, config.weight_by, where=f"{self.name}: weight_by")
        labels = (config.label,) if config.weight_by is None else (config.label, config.weight_by)
        self._needs = Needs((Forward(self.view, config.tower),), labels)

    @property
    def needs(self) -> Needs:
        """The tower on the view, the label, the weight."""
        return self._needs

    @abstractmethod
    def outputs_of(self, codec: Codec) -> int:
        """How many numbers a row the label wants; checks that the label is of a type that suits."""

    @abstractmethod
    def per_row(self, outputs: Tensor, labels: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Outputs float32 [B, E] and encoded labels [B] → losses [B], and which rows have a label, bool [B]."""

    def forward(self, step: Step) -> LossResult:
        """The weighted mean; zero when no row has a label."""
        outputs = step.run(self.view, self.config.tower).raw.float()
        labels, present = self._labels(step, self.config.label)
        if labels.shape[0] != outputs.shape[0]:
            raise UsageError(
                f"{self.name}: view '{self.view}' gives {outputs.shape[0]} vectors for {labels.shape[0]} labels: "
                'labels are one a row, so use a stream with rows = "rows" or "events"'
            )
        losses, known = self.per_row(outputs, labels, present)
        batch = shards(outputs.shape[0], outputs.device)
        if batch.total == 0:
            return LossResult(zero(outputs))
        weights = row_weights(step.views[self.view].batch, self.config.weight_by, known)
        return LossResult(batch.mean((losses.masked_fill(~known, 0.0) * weights).sum(), weights.sum()))

    def _labels(self, step: Step, field: str) -> tuple[Tensor, Tensor | None]:
        batch = step.views[self.view].batch
        if field not in batch.labels:
            raise UsageError(
                f"{self.name}: the batches of '{self.view}' hold no '{field}': draw from its table, or from a table that joins it"
            )
        return batch.labels[field], batch.extras.get(f"{field}.present")


class BinaryCrossEntropy(LabelLoss):
    """``-y log sigmoid(z) - (1 - y) log(1 - sigmoid(z))`` of the tower's one output z."""

    name = "binary_cross_entropy"
    config: BinaryCrossEntropyConfig

    def outputs_of(self, codec: Codec) -> int:
        """One logit."""
        self.binary = Binary.of(codec, self.config.positive, self.name)
        return 1

    def per_row(self, outputs: Tensor, labels: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """See ``LabelLoss.per_row``."""
        target, known = self.binary.targets(labels, present)
        return F.binary_cross_entropy_with_logits(outputs[:, 0], target, reduction="none"), known


class CrossEntropy(LabelLoss):
    """``-log softmax(z)[y]`` of the tower's outputs z, one a class in the order of the label's vocabulary."""

    name = "cross_entropy"
    config: CrossEntropyConfig

    def outputs_of(self, codec: Codec) -> int:
        """One logit a class."""
        return len(class_names(codec, self.name))

    def per_row(self, outputs: Tensor, labels: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """See ``LabelLoss.per_row``. Code 0 is a class that training never saw, or no label."""
        known = labels > 0 if present is None else (labels > 0) & present
        target = (labels - 1).clamp(min=0)
        return F.cross_entropy(outputs, target, reduction="none", label_smoothing=self.config.smoothing), known


class SquaredError(LabelLoss):
    """``(z - y)²`` of the tower's one output z and the label y, standardised as its field is encoded."""

    name = "squared_error"
    config: SquaredErrorConfig

    def outputs_of(self, codec: Codec) -> int:
        """One number."""
        require_number(codec, self.name)
        return 1

    def per_row(self, outputs: Tensor, labels: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """See ``LabelLoss.per_row``."""
        known = torch.ones_like(labels, dtype=torch.bool) if present is None else present
        return (outputs[:, 0] - labels.float()).square(), known

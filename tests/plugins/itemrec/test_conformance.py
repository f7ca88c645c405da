from __future__ import annotations

from embedkit.testing.conformance.augmentation import AugmentationConformance
from embedkit.testing.conformance.loss import LossConformance
from embedkit_itemrec.configs import (
    BprConfig,
    CorrelatedMaskingConfig,
    FieldMaskingConfig,
    GbceConfig,
    RandomMaskingConfig,
    SampledSoftmaxConfig,
    SoftmaxConfig,
)
from embedkit_itemrec.masking import CorrelatedMasking, FieldMasking, RandomMasking
from embedkit_itemrec.negatives import Bpr, Gbce
from embedkit_itemrec.sampled_softmax import SampledSoftmax
from embedkit_itemrec.softmax import Softmax


class TestSampledSoftmax(LossConformance):
    def loss(self, context):
        return SampledSoftmax(SampledSoftmaxConfig(query="user", target="item"), context=context)


class TestSampledSoftmaxWithASubsampleAndNegatives(LossConformance):
    def loss(self, context):
        return SampledSoftmax(SampledSoftmaxConfig(query="user", target="item", max_candidates=3, negatives="a"), context=context)


class TestSoftmax(LossConformance):
    def loss(self, context):
        return Softmax(SoftmaxConfig(query="user", target="item"), context=context)


class TestSoftmaxOverTrainedItems(LossConformance):
    def loss(self, context):
        return Softmax(SoftmaxConfig(query="user", target="item", candidates="trained"), context=context)


class TestGbce(LossConformance):
    def loss(self, context):
        return Gbce(GbceConfig(query="user", target="item", negatives="a"), context=context)


class TestBpr(LossConformance):
    def loss(self, context):
        return Bpr(BprConfig(query="user", target="item", negatives="a"), context=context)


class TestRandomMasking(AugmentationConformance):
    def augmentation(self, context):
        return RandomMasking(RandomMaskingConfig(value_dropout=0.3), context=context)


class TestCorrelatedMasking(AugmentationConformance):
    def augmentation(self, context):
        return CorrelatedMasking(CorrelatedMaskingConfig(value_dropout=0.3), context=context)


class TestFieldMasking(AugmentationConformance):
    makes = 1

    def augmentation(self, context):
        return FieldMasking(FieldMaskingConfig(first=["id", "tags"]), context=context)

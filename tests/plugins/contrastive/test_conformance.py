from __future__ import annotations

from embedkit.testing.conformance.augmentation import AugmentationConformance
from embedkit.testing.conformance.loss import LossConformance
from embedkit_contrastive.barlow import BarlowTwins, MixedBarlowTwins
from embedkit_contrastive.configs import BarlowTwinsConfig, CorruptionConfig, InfoNCEConfig, MixedBarlowTwinsConfig, MixupConfig
from embedkit_contrastive.corruption import Corruption
from embedkit_contrastive.info_nce import InfoNCE
from embedkit_contrastive.mixup import Mixup


class TestInfoNCE(LossConformance):
    def loss(self, context):
        return InfoNCE(InfoNCEConfig(tower="item", views=("a", "b")), context=context)


class TestInfoNCEWithAProjector(LossConformance):
    def loss(self, context):
        return InfoNCE(InfoNCEConfig(tower="item", views=("a", "b"), projector=[12, 5]), context=context)


class TestBarlowTwins(LossConformance):
    def loss(self, context):
        return BarlowTwins(BarlowTwinsConfig(tower="item", views=("a", "b"), projector=[12, 6]), context=context)


class TestBarlowTwinsOfEmbeddings(LossConformance):
    def loss(self, context):
        return BarlowTwins(BarlowTwinsConfig(tower="item", views=("a", "b"), projector=[], unit_length=True), context=context)


class TestMixedBarlowTwins(LossConformance):
    def loss(self, context):
        return MixedBarlowTwins(MixedBarlowTwinsConfig(tower="item", views=("a", "b"), mixed="main", projector=[12, 6]), context=context)


class TestCorruption(AugmentationConformance):
    def augmentation(self, context):
        return Corruption(CorruptionConfig(share=0.5), context=context)


class TestMixup(AugmentationConformance):
    makes = 1

    def augmentation(self, context):
        return Mixup(MixupConfig(other="b"), context=context)

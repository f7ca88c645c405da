from __future__ import annotations

from embedkit.testing.conformance.loss import LossConformance
from embedkit_contrastive.configs import InfoNCEConfig, SpreadOutConfig
from embedkit_contrastive.info_nce import InfoNCE
from embedkit_contrastive.spread_out import SpreadOut


class TestInfoNCE(LossConformance):
    def loss(self, context):
        return InfoNCE(InfoNCEConfig(tower="item", views=("a", "b")), context=context)


class TestSpreadOut(LossConformance):
    def loss(self, context):
        return SpreadOut(SpreadOutConfig(tower="item", view="a"), context=context)


class TestSpreadOutMoments(LossConformance):
    def loss(self, context):
        return SpreadOut(SpreadOutConfig(tower="item", view="a", form="moments"), context=context)

from __future__ import annotations

from embedkit.testing.conformance.loss import LossConformance
from embedkit_contrastive.configs import InfoNCEConfig
from embedkit_contrastive.info_nce import InfoNCE


class TestInfoNCE(LossConformance):
    def loss(self, context):
        return InfoNCE(InfoNCEConfig(tower="item", views=("a", "b")), context=context)

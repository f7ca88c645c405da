"""In which order linear joint-embedding prediction and linear masked reconstruction learn features (Littwin et al. 2024).

    python docs/studies/tjepa/linear_jepa.py

An encoder W = W_L … W_1 and a decoder V, all square and linear, see inputs x and targets y whose covariances share one basis: a feature i
has variance s_i in x and covariance l_i with y, so that r_i = l_i / s_i is its regression coefficient. Gradient descent on

    reconstruction  1/2 E || V W x - y ||^2            joint embedding  1/2 E || V W x - sg(W y) ||^2

from a small balanced start moves each feature's weight w by (NeurIPS 2024, arXiv 2407.03475, equations re-derived)

    dw/dt = L (w^(2 - 1/L) l - w^3 l / r),  w* = r^(L / (L+1))        dw/dt = L (w^(3 - 1/L) l - w^3 l / r),  w* = r^L

so reconstruction takes features by covariance, joint embedding, where it is deep, by regression coefficient: large and noisy ones later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Objective = Literal["reconstruction", "joint"]


@dataclass(frozen=True, eq=False)
class Path:
    """How features were learned.

    Attributes:
        times: [T], gradient steps times their length.
        weights: [T, F], the encoder's end-to-end weight of each feature.
        limit: [F], the fixed points that theory gives.
    """

    times: Floats
    weights: Floats
    limit: Floats

    def half_times(self) -> Floats:
        """When each feature's weight first reached half of its fixed point, [F]; infinite where it did not."""
        reached = self.weights >= self.limit / 2
        return np.where(reached.any(0), self.times[reached.argmax(0)], np.inf)


def learn(
    objective: Objective, layers: int, covariance: Floats, regression: Floats, *, start: float = 0.1, duration: float, step: float = 0.005
) -> Path:
    """Gradient descent on the matrices themselves, in a basis that is not the features' own.

    Args:
        objective: what is predicted.
        layers: depth L of the encoder.
        covariance: l [F].
        regression: r [F].
        start: end-to-end weight at the start; each layer has its L-th root, and so has the decoder.
        duration: of training, in time.
        step: length of a gradient step.
    """
    features = len(covariance)
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(features, features)))[0]
    s_xx, s_yx = (basis @ np.diag(d) @ basis.T for d in (covariance / regression, covariance))
    encoder = [np.eye(features) * start ** (1 / layers) for _ in range(layers)]
    decoder = encoder[0].copy()
    count = round(duration / step)
    weights = np.empty((count, features))
    for i in range(count):
        below = _products(encoder)
        whole = below[-1]
        weights[i] = np.diag(basis.T @ whole @ basis)
        target = s_yx if objective == "reconstruction" else whole @ s_yx
        error = decoder @ whole @ s_xx - target
        above = decoder.T @ error
        gradients = []
        for layer in reversed(range(layers)):
            gradients.append(above @ below[layer].T)
            above = encoder[layer].T @ above
        decoder = decoder - step * error @ whole.T
        encoder = [w - step * g for w, g in zip(encoder, reversed(gradients), strict=True)]
    power = layers / (layers + 1) if objective == "reconstruction" else layers
    return Path(np.arange(count) * step, weights, np.asarray(regression**power))


def _products(encoder: list[Floats]) -> list[Floats]:
    """1, W_1, W_2 W_1, …: what is below each layer, and the whole last."""
    found = [np.eye(len(encoder[0]))]
    for weight in encoder:
        found.append(weight @ found[-1])
    return found


COVARIANCE, REGRESSION = np.array([1.0, 1.2]), np.array([1.5, 0.75])
"""Feature A can be predicted better, B has more covariance."""


def main() -> None:
    """Print half-times and final weights of both objectives at depths 1 and 3."""
    print("| depth | objective | half-time A | half-time B | first | final A (theory) | final B (theory) |")
    print("|---|---|---|---|---|---|---|")
    for layers in (1, 3):
        for objective in ("reconstruction", "joint"):
            path = learn(objective, layers, COVARIANCE, REGRESSION, duration=50.0)
            a, b = path.half_times()
            ends = [f"{w:.3f} ({limit:.3f})" for w, limit in zip(path.weights[-1], path.limit, strict=True)]
            print(f"| {layers} | {objective} | {a:.2f} | {b:.2f} | {'A' if a < b else 'B'} | {' | '.join(ends)} |")


if __name__ == "__main__":
    main()

"""The train loop. It reads top to bottom; what a line stands for is in the module that it names."""

from __future__ import annotations

import math

from embedkit.errors import DataError
from embedkit.nn.gather import world
from embedkit.pace import clock_text
from embedkit.training.distributed import any_of, average_gradients, first, from_first, mean
from embedkit.training.memory import give_back
from embedkit.training.report import summary
from embedkit.training.session import Session
from embedkit.training.signals import Interruption
from embedkit.training.stages import StageResult
from embedkit.training.step import StepResult
from embedkit.training.validate import measure


def train(session: Session) -> StageResult:
    """Train until the last step, or until validation stops improving; leaves the best weights in the model.

    Raises:
        DataError: a loss is no longer a finite number.
        KeyboardInterrupt: SIGINT or SIGTERM came; a checkpoint was written first.
    """
    module, optimizers, networks = session.module, session.optimizers, session.networks
    on_cpu = session.context.device.type == "cpu"
    with Interruption() as interruption:
        while session.step < session.total and not (session.stopper and session.stopper.stopped):
            views, rows = session.next_views()
            clock = session.clock
            result = module(views, clock, session.random)
            if on_cpu:
                require_finite(result, session)
            result.total.backward()
            average_gradients(session.parameters.values())
            norm = optimizers.step(clock)
            networks.update(clock)
            session.average.update(clock)
            module.after_update(result)
            session.step += 1
            scalars = {"loss": result.total.detach(), **result.scalars}
            if norm is not None:
                scalars["grad_norm"] = norm
            session.meter.add(scalars, rows)

            if session.step == 1:
                session.watch.begin(result.step)
            if session.due(session.config.log_every):
                report(session, result)
            if session.config.validate_ is not None and session.due(session.config.validate_.every):
                validate(session)
                save(session, result)
            elif any_of(session.checkpoint_due()):
                save(session, result)
            if any_of(interruption.requested):
                save(session, result)
                raise KeyboardInterrupt(f"stopped at step {session.step} of {session.total}; resume the run to go on")
            del views, result  # else two steps' outputs are held at once
    return finish(session)


def save(session: Session, result: StepResult) -> None:
    """Write a checkpoint, unless the last loss is no finite number: a resume would only find it again."""
    require_finite(result, session)
    session.save()


def require_finite(result: StepResult, session: Session) -> None:
    """Raise ``DataError`` when the total loss is no finite number, naming the step and the losses it comes from."""
    if math.isfinite(result.total.item()):
        return
    parts = [name for name, value in result.scalars.items() if not math.isfinite(value.item())]
    raise DataError(not_finite(session.step, parts or ["the weighted sum"]))


def not_finite(step: int, parts: list[str]) -> str:
    """What to say, and to try, when a loss is no finite number."""
    return (
        f"step {step}: the loss is no finite number ({', '.join(parts)}): "
        "try a lower lr or a longer warmup, a higher temperature, a smaller clip, or precision = 'float32'"
    )


def report(session: Session, result: StepResult) -> None:
    """Write one line of metrics: means since the line before, and how the last batch's embeddings lie."""
    losses, speed = session.meter.take()
    losses, speed = mean(losses), speed * world()
    bad = [name for name, value in losses.items() if not math.isfinite(value) and name != "grad_norm"]
    if bad:
        raise DataError(not_finite(session.step, bad))
    if not first():
        return
    norm = losses.pop("grad_norm", None)
    left = session.time_left(session.step)
    record = {
        "kind": "train",
        "stage": session.context.name,
        "step": session.step,
        "epoch": round(session.epoch, 4),
        "losses": losses,
        "lr": session.optimizers.lr,
        "rows_per_second": round(speed, 1),
    }
    if norm is not None and math.isfinite(norm):
        record["grad_norm"] = norm
    spread, warnings = session.watch.see(result.step)
    if spread:
        record["watch"] = spread
    session.metrics.append(record)
    for line in warnings:
        session.progress.line(line)
    session.progress.update(session.step, f"{summary(losses, speed)}  {clock_text(left)} left")
    session.context.host.announce("step_reported", report=record)


def validate(session: Session) -> None:
    """Measure (the average of the weights, if there is one), keep the weights when they are the best so far, and write one line."""
    assert session.config.validate_ is not None
    assert session.stopper is not None
    metric = session.config.validate_.metric
    with session.meter.paused(), session.average.shown():
        figures = from_first(lambda: measure(session))
        give_back()
        value = figures[metric]
        best = session.stopper.see(value, session.step)
        if best and first():
            session.checkpoints.save_best(session.step, session.kept.state_dict())
    if not first():
        return
    record = {
        "kind": "valid",
        "stage": session.context.name,
        "step": session.step,
        "epoch": round(session.epoch, 4),
        "metric": metric,
        "value": value if math.isfinite(value) else None,
        "metrics": {name: figure for name, figure in figures.items() if math.isfinite(figure)},
        "best": best,
    }
    session.metrics.append(record)
    session.progress.line(f"{session.context.name} step {session.step}  valid {metric} {value:.4f}{' (best)' if best else ''}")
    session.context.host.announce("step_reported", report=record)
    if session.context.onlooker is not None:
        session.context.onlooker(session.context.index, record)


def finish(session: Session) -> StageResult:
    """Put the best weights back, or the average where nothing was validated, as the stage's result, and say how it went."""
    stopper = session.stopper
    session.average.keep()
    if session.kept is not session.context.model:
        session.context.model.load_state_dict(session.kept.state_dict())
    metrics: dict[str, float] = {}
    if stopper is not None and stopper.best is not None and stopper.best_step is not None:
        assert session.config.validate_ is not None
        metrics[session.config.validate_.metric] = stopper.best
        if stopper.best_step != session.step:
            session.context.model.load_state_dict(session.checkpoints.load_best(stopper.best_step))
        session.progress.line(f"{session.context.name}: kept the weights of step {stopper.best_step}")
    return StageResult(metrics, steps=session.step)

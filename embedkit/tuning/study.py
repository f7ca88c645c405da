"""The study: which options to try next, and what became of those tried. Optuna chooses; its journal is the memory.

A study can be killed at any moment. Every trial draws from a generator of its own, seeded by the study's seed and the trial's number, so
that what is tried next depends on the trials before it alone, and an interrupted study goes the way of an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from embedkit.errors import UsageError
from embedkit.tuning.space import Range, Space, toml_value
from embedkit.tuning.trials import Objective, Pruned

if TYPE_CHECKING:
    import optuna

    from embedkit.training.stages import Onlooker

NAME = "embedkit"
"""Of the study in its journal."""

SamplerName = Literal["tpe", "random", "grid"]
State = Literal["running", "finished", "pruned", "failed"]

STATES: dict[str, State] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
"""Optuna's words → ours."""


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: from 1.
        state: ``finished``, ``pruned`` (ended early), ``failed`` (``error`` says why) or ``running`` (to be gone on with).
        value: best validation; of a pruned trial the last one.
        options: key path → value.
        seconds: what training took; a session that was killed is not counted.
        error: why it failed.
        run: folder of its run.
    """

    number: int
    state: State
    value: float | None
    options: Mapping[str, Any]
    seconds: float
    error: str | None
    run: Path


def require_optuna() -> None:
    """Raises ``UsageError`` where optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UsageError('tuning needs optuna, which is not installed here; run: pip install "embedkit[tune]"') from None


class Study:
    """The trials of one tuning.

    Args:
        folder: of the tuning; holds ``study.journal`` and ``trials/``. The caller holds its lock.
        space: what is tried.
        objective: what trials are judged by.
        sampler: how options are chosen.
        seed: of the choice.
        prune: end trials that are worse than the median of earlier ones at the same step; the first five never are.
    """

    def __init__(self, folder: Path, space: Space, objective: Objective, *, sampler: SamplerName, seed: int, prune: bool) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.space, self.objective, self.sampler, self.seed = folder, space, objective, sampler, seed
        self.grid = space.grid() if sampler == "grid" else []
        journal = folder / "study.journal"
        _mend(journal)
        self._storage = JournalStorage(JournalFileBackend(str(journal)))
        self._direction: Literal["minimize", "maximize"] = "minimize" if objective.mode == "min" else "maximize"
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=NAME,
            direction=self._direction,
            pruner=optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        self._distributions = {key: _distribution(option) for key, option in space.options.items()}

    # ------------------------------------------------------------------ what was tried

    def trials(self) -> list[Trial]:
        """Every trial, in order."""
        return [self._trial(one) for one in self._frozen()]

    def _trial(self, frozen: optuna.trial.FrozenTrial) -> Trial:
        state = STATES.get(frozen.state.name, "running")
        value = None if state in ("running", "failed") else frozen.value
        options = {key: self._value(key, frozen.params[key]) for key in self.space.options if key in frozen.params}
        seconds, error = frozen.user_attrs.get("seconds", 0.0), frozen.user_attrs.get("error")
        number = frozen.number + 1  # optuna counts from 0
        return Trial(number, state, value, options, seconds, error, self.run(number))

    def _value(self, key: str, written: Any) -> Any:
        """What optuna keeps → the option's value. Of a list it keeps the text, since its choices may be numbers and words only."""
        option = self.space.options[key]
        return option.number(written) if isinstance(option, Range) else next(one for one in option if toml_value(one) == written)

    def run(self, number: int) -> Path:
        """Folder of a trial's run."""
        return self.folder / "trials" / f"{number:03d}"

    def best(self) -> Trial | None:
        """The finished trial with the best value; the earlier of two that are equal."""
        finished = [trial for trial in self.trials() if trial.state == "finished" and trial.value is not None]
        sign = 1 if self.objective.mode == "min" else -1
        return min(finished, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)

    # ------------------------------------------------------------------ trying

    def next(self) -> Trial:
        """The trial that was interrupted, or a new one."""
        running = [one for one in self.trials() if one.state == "running"]
        if running:
            return running[0]
        from optuna.trial import TrialState, create_trial

        # Chosen first and written down in one piece: a trial that a kill left half chosen could not be repeated.
        number = len(self._frozen()) + 1
        params = self._written(self.grid[number - 1]) if self.sampler == "grid" else self._chosen(number)
        self._study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=self._distributions))
        return self.trials()[number - 1]

    def _written(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value if isinstance(self.space.options[key], Range) else toml_value(value) for key, value in options.items()}

    def _chosen(self, number: int) -> dict[str, Any]:
        """What the sampler would try next, from a copy of the study in memory."""
        import optuna

        from embedkit.training.compute import derive_seed

        seed = derive_seed(self.seed, "tuning", number) % 2**32
        sampler = optuna.samplers.RandomSampler(seed) if self.sampler == "random" else optuna.samplers.TPESampler(seed=seed)
        copy = optuna.create_study(sampler=sampler, direction=self._direction)
        copy.add_trials(self._frozen())
        params: dict[str, Any] = copy.ask(self._distributions).params
        return params

    def onlooker(self, number: int) -> Onlooker:
        """What looks on while a trial trains: reports its validations, and ends it when the pruner says so."""

        def look(stage: int, record: Mapping[str, Any]) -> None:
            value, step = record["value"], int(record["step"])
            if stage != self.objective.stage or value is None:
                return
            if step not in self._frozen()[number - 1].intermediate_values:  # a trial that goes on comes by again
                self._storage.set_trial_intermediate_value(self._id(number), step, value)
            if self._study.pruner.prune(self._study, self._frozen()[number - 1]):
                raise Pruned(f"ended at step {step}: {self.objective.metric} {value:.4f} is worse than the median of earlier trials")

        return look

    def spent(self, number: int, seconds: float) -> None:
        """Add to the seconds that a trial took."""
        so_far = self._frozen()[number - 1].user_attrs.get("seconds", 0.0)
        self._storage.set_trial_user_attr(self._id(number), "seconds", so_far + seconds)

    def finish(self, number: int, value: float) -> None:
        """A trial has ended with a value."""
        self._study.tell(number - 1, value)

    def prune(self, number: int) -> None:
        """A trial was ended early."""
        from optuna.trial import TrialState

        self._study.tell(number - 1, state=TrialState.PRUNED)

    def fail(self, number: int, error: str) -> None:
        """A trial could not be trained to its end."""
        from optuna.trial import TrialState

        self._storage.set_trial_user_attr(self._id(number), "error", error)
        self._study.tell(number - 1, state=TrialState.FAIL)

    def _frozen(self) -> list[optuna.trial.FrozenTrial]:
        found: list[optuna.trial.FrozenTrial] = self._study.get_trials(deepcopy=False)
        return found

    def _id(self, number: int) -> int:
        """The storage's own number of a trial."""
        study = self._storage.get_study_id_from_name(NAME)
        found: int = self._storage.get_trial_id_from_study_id_trial_number(study, number - 1)
        return found


def _distribution(option: Range | tuple[Any, ...]) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(option, Range):
        return CategoricalDistribution([toml_value(one) for one in option])
    if option.whole:
        return IntDistribution(round(option.low), round(option.high), log=option.log, step=round(option.step or 1))
    return FloatDistribution(option.low, option.high, log=option.log, step=option.step)


def _mend(journal: Path) -> None:
    """Cut off a line that a kill tore, and take away the lock that its writer left: nobody else writes here while the folder is locked."""
    for left in journal.parent.glob(f"{journal.name}.lock*"):
        left.unlink(missing_ok=True)
    if journal.exists():
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with journal.open("r+b") as file:
                file.truncate(whole)

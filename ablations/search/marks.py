"""Takes a trial of a study; gives what it says of itself there, beside what Optuna knows of it."""

from optuna.trial import FrozenTrial, TrialState, create_trial

DRIVER = "driver"
"""Which driver has it."""
TRAININGS = "trainings"
"""The identities of what it trains, a block each."""
HOURS = "hours"
"""What it took, on all its GPUs."""
SOURCE = "source"
"""Whether it was ``trained``, or all of it ``stored``."""
FAILURE = "failure"
"""The name of the failure that ended it."""
NOT_ALLOWED = "not allowed"
"""The constraint that its point breaks."""
SURPLUS = "surplus"
"""It was one too many: several drivers asked at once."""
AGAIN = "again"
"""The number of the trial that was left unfinished, and is asked for again by this one."""
WARM = "warm start"
"""It was known before the search began."""


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial takes of the budget: what was asked for and tried, or is being tried."""
    if WARM in trial.user_attrs or SURPLUS in trial.user_attrs or NOT_ALLOWED in trial.user_attrs:
        return False
    if trial.state == TrialState.FAIL:
        return FAILURE in trial.user_attrs
    return trial.state != TrialState.WAITING


def is_lost(trial: FrozenTrial) -> bool:
    """Whether a failed trial was given up, rather than tried."""
    own = trial.user_attrs
    return not (FAILURE in own or NOT_ALLOWED in own or SURPLUS in own)


def is_twin(other: FrozenTrial, ids: list[str]) -> bool:
    """Whether a trial has the same trainings, and tells by its end what they come to."""
    if other.user_attrs.get(TRAININGS) != ids:
        return False
    if other.state == TrialState.FAIL:
        return FAILURE in other.user_attrs
    return other.state in (TrialState.RUNNING, TrialState.PRUNED)


def again(trial: FrozenTrial) -> FrozenTrial:
    """The same trial, to be asked for once more; what it reported is kept."""
    return create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={AGAIN: trial.number},
        system_attrs=trial.system_attrs,
        intermediate_values=trial.intermediate_values,
    )

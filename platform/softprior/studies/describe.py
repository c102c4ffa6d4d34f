"""A plan in words: what will run, what it costs and what it can show."""

from __future__ import annotations

from softprior.studies.estimate import hours, smallest_p, total_cost, trial_cost
from softprior.studies.plan import Plan


def describe(plan: Plan, every_trial: bool) -> list[str]:
    """Lines for the terminal; with `every_trial` one line for each."""
    study, cost = plan.study, total_cost(plan.trials)
    count = len(plan.trials)
    lines = [f"study {study.name}: {count} trial{'s' * (count != 1)} on {study.model.id}"]
    if every_trial:
        for trial in plan.trials:
            own = trial_cost(trial)
            lines.append(f"  {trial.id}  {trial.label}  {own.trained + own.evaluated:,} positions")
    lines += [f"  note: {note}" for note in plan.notes]
    lines.append(f"  about {cost.trained:,} positions trained and {cost.evaluated:,} evaluated")
    resources = study.resources
    time = hours(cost, study.model, resources.cpus, resources.gpus)
    machine = f"{resources.cpus} CPU{'s' * (resources.cpus > 1)}"
    machine += f" and {resources.gpus:g} GPU" if resources.gpus else ""
    guess = "unknown, as the model's size is" if time is None else _duration(time)
    lines.append(f"  one trial after another on {machine}: {guess}, starting up not counted")
    if any(trial.prior is not None for trial in plan.trials):
        smallest, seeds = smallest_p(plan), len(set(study.seeds))
        lines.append(
            f"  {seeds} seed{'s' * (seeds > 1)}: comparing two priors can give p = {smallest:.2g} at best"
            + ("" if smallest <= 0.05 else " (six seeds are the fewest for 0.05)")
        )
    return lines


def _duration(time: float) -> str:
    minutes = max(1, round(time * 60))
    return f"about {time:.1f} hours" if time >= 1 else f"about {minutes} minute{'s' * (minutes > 1)}"

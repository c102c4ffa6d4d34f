"""What a person sees of a running study, and what a worker tells of itself."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from softprior.inputs.specs import TrialSpec
from softprior.methods import METHODS
from softprior.priors import PRIORS
from softprior.studies.progress import Watch
from softprior.studies.reporting import EVENTS, Reporter
from softprior.training.events import Event, Notice, Phase, Step
from tests.builders import run, trial


@contextmanager
def watching(console: Console, trials: list[TrialSpec], quiet: float) -> Iterator[Watch]:
    watch = Watch(console, trials, done=0, quiet=quiet)
    yield watch
    watch.close({})


def test_what_begins_right_after_a_line_is_said_although_nothing_follows(tmp_path: Path) -> None:
    trials = [trial(prior=PRIORS["isotropic"](scale=scale)) for scale in (0.02, 0.1)]
    record = run(trials[1], tmp_path)
    console = Console(file=io.StringIO(), width=1000)
    with watching(console, trials, quiet=0.5) as watch:
        for spec in trials:
            watch.progress(spec, [Phase(0, "loading the model")])
        watch.progress(trials[1], [Phase(0, "fitting vae", "place 2 of 30")])
        deadline = time.monotonic() + 60
        while "fitting" not in console.file.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        watch.progress(trials[1], [Step(record.steps[2], 6)])
        watch.ended(record)
    first, second, third, last = console.file.getvalue().splitlines()
    assert first.endswith("soft · isotropic · 0.05 · seed 0  loading the model")
    assert trials[1].id[:6] in second
    assert third.endswith("isotropic(scale=0.1) · 0.05 · seed 0  fitting vae place 2 of 30")
    assert "1/2" in last
    assert "isotropic(scale=0.1)" in last
    assert "test loss" in last


def test_a_long_start_of_ray_is_said_where_no_bar_shows_it() -> None:
    for quiet, terminal, said in ((1e-3, False, 1), (600, False, 0), (1e-3, True, 0)):
        console = Console(file=io.StringIO(), width=1000, force_terminal=terminal)
        with watching(console, [trial()], quiet) as watch:
            time.sleep(2e-3)
            deadline = time.monotonic() + 60
            while quiet < 1 and not terminal and "starting Ray, which" not in console.file.getvalue():
                assert time.monotonic() < deadline
            for name in ("loading the model", "training"):
                watch.progress(trial(), [Phase(0, name)])
        assert console.file.getvalue().count("Ray started after 0 s\n") == said
        assert console.file.getvalue().count("starting Ray, which takes seconds") == said


def test_a_bar_says_what_is_left_once_all_trials_have_ended(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=1000, force_terminal=True)
    Watch(console, [trial()], done=1).close({})
    assert "drawing figures" in console.file.getvalue()
    later = Console(file=io.StringIO(), width=1000, force_terminal=True)
    watch = Watch(later, [trial()], done=0)
    watch.ended(run(trial(), tmp_path))
    watch.close({})
    assert "drawing figures" in later.file.getvalue()


def test_a_new_phase_is_passed_on_at_once_and_the_rest_once_a_second() -> None:
    sent: list[list[Event]] = []
    reporter = Reporter(lambda message: sent.append(message[EVENTS]))
    reporter(Phase(0, "loading the model"))
    reporter(Phase(0, "fitting vae"))
    assert len(sent) == 2
    for part in range(50):
        reporter(Phase(0, "fitting vae", f"place {part} of 50"))
    assert len(sent) < 50
    reporter(Phase(0, "training"))
    assert sent[-1][-1] == Phase(0, "training")
    assert sum(map(len, sent)) == 53


def test_a_trial_tells_its_stages_in_order(tmp_path: Path) -> None:
    events: list[Event] = []
    run(trial(method=METHODS["deep"](tokens=2)), tmp_path, events.append)
    began = [event for event in events if isinstance(event, Phase)]
    phases = list(dict.fromkeys(event.name for event in began))
    prepared = ["reading arithmetic", "fitting fitted", "validation", "losses of the start"]
    assert phases == [*prepared, "training", "test", "sanity"]
    parts = [event.part for event in began if event.part]
    assert parts == [f"place {i} of {len(parts)}" for i in range(1, len(parts) + 1)]
    assert len(parts) > 1


def test_that_a_trial_starts_again_is_said_at_once() -> None:
    spec = trial()
    console = Console(file=io.StringIO(), width=1000)
    with watching(console, [spec], quiet=600) as watch:
        watch.progress(spec, [Phase(0, "loading the model")])
        for _ in range(2):
            watch.progress(spec, [Notice(0, "its process died", again=True)])
    first, *others = console.file.getvalue().splitlines()
    assert first.endswith("loading the model")
    assert [line.partition("seed 0  ")[2] for line in others] == ["its process died"] * 2


def test_a_warning_about_a_fit_is_said_at_once(tmp_path: Path) -> None:
    events: list[Event] = []
    prior = PRIORS["vae"](steps=1, width=8, latent=1)
    record = run(trial(prior=prior, steps=1), tmp_path, events.append)
    (facts,) = record.prior.values()
    told = [event.text for event in events if isinstance(event, Notice)]
    assert told == ([] if facts["verdict"] == "fits" else [facts["verdict"]])
    spec = trial()
    console = Console(file=io.StringIO(), width=1000)
    with watching(console, [spec], quiet=600) as watch:
        for spread in ("0.31", "1.51", "0.31"):  # two places, and a retry
            sentence = f"the vae is no fit: {spread} of the variance"
            watch.progress(spec, [Notice(0, sentence)])
        watch.progress(spec, [Notice(0, "another")])
    said = [
        line for line in console.file.getvalue().splitlines() if "seed 0" in line and "fitting" not in line
    ]
    assert [line.partition("seed 0  ")[2] for line in said] == [
        "the vae is no fit: 0.31 of the variance",
        "another",
    ]

"""Figures and tables of a statistics store: what is drawn is there, and follows from the store alone."""

from __future__ import annotations

import io
import re
import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from rich.console import Console
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from analysis.activation_tables import ROWS, prompt_table, task_table
from analysis.figures.activation_depth import OVER_DEPTH, along_depth
from analysis.figures.activation_groups import draw_groups, noise_floor
from analysis.figures.activation_means import draw_means, plane_of_means
from analysis.figures.activation_planes import STEPS, _cloud, _text, draw_planes
from analysis.figures.activations import draw_activations
from analysis.figures.palette import COLOURS
from analysis.figures.style import DPI, PAGE, PANELS, spread_over
from softprior.activations.findings.groups import group_findings
from softprior.activations.findings.prompts import prompt_findings
from softprior.activations.findings.ratios import separation_of, step_ratio
from softprior.activations.findings.record import Findings
from softprior.activations.findings.summary import findings
from softprior.activations.folder import RunFolder
from softprior.activations.merging import finish
from softprior.activations.plan import plan_activations
from softprior.statistics.store import load_statistics, load_tables
from softprior.tasks.parts import PARTS
from tests.activations.stores import (
    ANSWER,
    DOCUMENTS,
    TOKENS,
    normal,
    write,
    write_prompts,
    write_vocabulary,
)
from tests.activations.stores import WIDTH as DIMENSIONS
from tests.activations.test_worker import encoder_decoder, read, spec, worker
from tests.analysis.figures.overlaps import assert_no_overlap
from tests.analysis.figures.saved import COARSE, caption_of, saved

SITES = ("resid.0", "resid.1", "resid.2")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    groups = torch.arange(DOCUMENTS) % 4
    for site in SITES:
        modules = normal(4, DIMENSIONS, seed=site)[groups][:, None]
        texts = normal(DOCUMENTS, TOKENS, DIMENSIONS, seed=site) + modules
        write(folder, "sums", site, texts, groups=groups, sample=150)
        plain, shuffled = (normal(DOCUMENTS, TOKENS, DIMENSIONS, seed=seed) + 3 for seed in (0, "shuffled"))
        write(folder, "text", site, plain, answers=False, shuffled=shuffled, sample=150)
    write_vocabulary(folder)
    return folder


@pytest.fixture(scope="module")
def found(store: Path) -> Findings:
    return findings(store)


pytestmark = pytest.mark.usefixtures("quick_tsne")


def quiet(*_: object) -> None:
    """Nobody watches."""


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved; coarse, as nobody looks at its pixels."""
    return saved(monkeypatch, COARSE)


class Whole(NamedTuple):
    """What all tests of the store's figures look at, drawn once."""

    paths: list[Path]
    figures: list[Figure]
    told: list[tuple[object, ...]]


@pytest.fixture(scope="module")
def whole(store: Path, found: Findings, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    told: list[tuple[object, ...]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.figures.activation_planes.TSNE", partial(TSNE, max_iter=250))
        figures = saved(patch, DPI)
        folder = tmp_path_factory.mktemp("whole")
        paths = draw_activations(store, found, folder, lambda *what: told.append(what))
    return Whole(paths, figures, told)


def test_all_figures_are_drawn_as_wide_as_a_page_and_the_same_again(store, found, whole, tmp_path) -> None:
    paths = whole.paths
    assert [path.name for path in paths] == [
        "activations-pca.png",
        "activations-tsne.png",
        "activations-means-sums.png",
        "activations-groups-sums.png",
        "activations-depth.png",
    ]
    panels = [f"{kind} of {site}" for kind in ("pca", "tsne") for site in SITES]
    panels += [f"means of sums at {site}" for site in SITES]
    assert whole.told == [(i, 9, panel) for i, panel in enumerate(panels)]
    for path in paths:
        pixels = matplotlib.image.imread(path)
        assert pixels.shape[1] == PAGE * DPI
        if "sums" not in path.name:
            for colour in COLOURS[:2]:  # both tasks are seen
                near = np.abs(pixels[..., :3] - to_rgb(colour)).max(-1) < 0.02
                assert near.sum() > 50, (path.name, colour)
    again = draw_planes(store, found, tmp_path, "pca", quiet)
    assert again is not None
    assert again.read_bytes() == paths[0].read_bytes()


def test_planes_have_explained_variance_on_their_axes_and_vocabulary_where_it_is(store, whole) -> None:
    figure = whole.figures[0]
    panels = figure.axes
    assert [panel.get_title() for panel in panels] == [
        f"{site} (n = {600 if site == SITES[0] else 300})" for site in SITES
    ]
    vectors = np.concatenate([_cloud(store, task, "resid.1", None).vectors for task in ("sums", "text")])
    values = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False) ** 2
    assert panels[1].get_xlabel() == f"PC 1 ({values[0] / values.sum():.0%} of variance)"
    assert panels[1].get_ylabel() == f"PC 2 ({values[1] / values.sum():.0%})"
    # Vocabulary is one more collection, at the embedding alone.
    assert len(panels[0].collections) == len(panels[1].collections) + 1
    # A task's path lies behind its points.
    assert len(panels[1].lines) == 2
    assert max(line.get_zorder() for line in panels[1].lines) < min(
        points.get_zorder() for points in panels[1].collections
    )
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:3] == ["sums", "text", "vocabulary"]
    assert_no_overlap(figure)


def test_planes_of_tsne_say_n_and_seed(whole) -> None:
    assert "perplexity 30, seed 0" in caption_of(whole.figures[1])
    assert whole.figures[1].axes[1].get_title() == "resid.1 (n = 300)"


def test_one_token_far_out_does_not_squeeze_the_others(tmp_path, drawn) -> None:
    texts = normal(DOCUMENTS, TOKENS, DIMENSIONS)
    texts[0, 1] = 500
    write(tmp_path, "sums", "resid.0", texts, answers=False, sample=150)
    draw_planes(tmp_path, findings(tmp_path), tmp_path, "pca", quiet)
    (panel,) = drawn[0].axes
    left, right = panel.get_xlim()
    assert right - left < 50
    outside = [text.get_text() for text in panel.texts]
    assert outside in ([], ["1 of 150 outside"])


def test_prompts_stand_in_the_plane_of_the_texts_and_do_not_decide_it(
    store, found, whole, tmp_path, drawn
) -> None:
    """At sites that have them; one far away takes no room, and one that is massive takes no part."""
    followed = tmp_path / "store"
    shutil.copytree(store, followed)
    far, massive = torch.zeros(2, DIMENSIONS), normal(2, DIMENSIONS)
    massive[0] *= 1000
    soft = normal(4, DIMENSIONS, seed="soft")
    norms = [found.tasks[task]["resid.1"].norm for task in ("sums", "text")]
    far[:, 0] = 9 * max(norms)
    prompts = {"far": far, "massive": massive, "soft": soft}
    write_prompts(followed, "resid.1", prompts, cut=1)
    write_prompts(followed, "resid.2", {"soft": soft})
    sites = {
        "resid.1": prompt_findings(followed, "resid.1", norms),
        "resid.2": prompt_findings(followed, "resid.2", norms),
    }
    draw_planes(followed, found.amended(prompts=sites), tmp_path / "with", "pca", quiet)
    before, after = whole.figures[0].axes, drawn[0].axes
    vectors = np.concatenate([_cloud(store, task, "resid.1", None).vectors for task in ("sums", "text")])
    pca = PCA(2, random_state=0).fit(vectors)
    assert after[1].get_xlabel() == before[1].get_xlabel()
    assert len(after[0].collections) == len(before[0].collections)  # none of them is at resid.0
    own = after[1].collections[len(before[1].collections) :]
    points = np.concatenate([drawing.get_offsets() for drawing in own])
    # Travelling vectors before cut ones, prompt by prompt; `far` and the massive one are not there.
    shown = torch.cat([massive[1:], soft[1:], soft[:1]]).numpy()
    assert np.allclose(points, pca.transform(shown), atol=1e-5)
    assert [text.get_text() for text in after[1].texts] == ["3 prompt vectors outside"]
    assert not after[2].texts
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert labels[-4:] == ["prompt far", "prompt massive", "prompt soft", "cut after its block"]
    draw_planes(followed, found.amended(prompts=sites), tmp_path / "with", "tsne", quiet)
    assert len(drawn[1].axes[1].collections) > len(before[1].collections)
    console = Console(width=160)
    with console.capture() as captured:
        console.print(prompt_table(sites, console.width))
    cells = [re.split(" {2,}", line.strip()) for line in captured.get().splitlines() if "resid" in line]
    assert [row[:3] + row[6:8] for row in cells[:2]] == [
        ["resid.1", "far", "2", "0", "1"],
        ["resid.1", "massive", "2", "0", "1"],
    ]


def test_a_path_is_the_end_of_one_text_and_knows_its_answer(store) -> None:
    text = _text(store, "sums", "resid.0")
    cloud = _cloud(store, "sums", "resid.2", text)
    paths = load_tables(store, "sums", "resid.2").paths
    own = paths["vectors"][paths["text"] == text]
    assert np.array_equal(cloud.path, own[-STEPS:].numpy())
    assert (cloud.path_parts == PARTS.index("answer")).tolist() == [False] * (STEPS - ANSWER) + [
        True
    ] * ANSWER


def test_curves_are_the_findings_with_their_intervals(found, whole) -> None:
    figure = whole.figures[4]
    by_title = {panel.get_title(): panel for panel in figure.axes}
    assert list(by_title) == [panel.title for panel in OVER_DEPTH]
    steps = by_title["step of a text / shuffled"]
    expected = [step_ratio(found.tasks["sums"][site]) for site in SITES]
    assert "Bands: 95% intervals over documents" in caption_of(figure)
    assert_no_overlap(figure)
    assert np.allclose(steps.lines[0].get_ydata(), [ratio.value for ratio in expected])
    corners = steps.collections[0].get_paths()[0].vertices[:, 1]
    assert corners.min() == pytest.approx(min(ratio.low for ratio in expected))
    assert corners.max() == pytest.approx(max(ratio.high for ratio in expected))
    apart_by = by_title["MMD$^2$ between tasks"]
    assert np.allclose(
        apart_by.lines[0].get_ydata(), [separation_of(found.pairs["sums / text"][s]).value for s in SITES]
    )
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["sums", "text", "sums / text"]
    # Only one task has answers: one curve and the line of the null.
    assert len(by_title["trace of an answer / a random span"].lines) == 2


def test_groups_are_drawn_with_every_distance_and_what_chance_gives(store, found, whole, tmp_path) -> None:
    first = whole.figures[3].axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == [f"module {g}" for g in range(4)]
    distances = found.groups["sums"]["resid.0"].distances
    shown = {text.get_position(): text.get_text() for text in first.texts}
    assert len(shown) == 12
    assert shown[(1, 0)] == f"{distances[0][1]:.2f}".removeprefix("0")
    assert first.get_title() == f"resid.0 (chance: {noise_floor(store, 'sums', 'resid.0').max():.2f})"
    assert_no_overlap(whole.figures[3])
    assert draw_groups("sums", {}, tmp_path) is None


def test_chance_is_the_distance_between_halves_of_one_group(tmp_path) -> None:
    """Two groups without a difference, many times: the root mean square of their distance is the floor."""
    count, repeats = 40, 200
    groups = torch.arange(count) % 2
    floors, squares = [], []
    for i in range(repeats):
        texts = normal(count, 1, DIMENSIONS, seed=f"null {i}")
        if i < 5:
            write(tmp_path / str(i), "sums", "resid.0", texts, answers=False, groups=groups, sample=count)
            floors.append(noise_floor(tmp_path / str(i), "sums", "resid.0")[0, 1])
        means = torch.stack([texts[groups == g].mean((0, 1)) for g in (0, 1)]).double()
        spread = texts.reshape(-1, DIMENSIONS).double().var(0, correction=0).sum()
        squares.append(float((means[0] - means[1]).square().sum() / spread))
    assert np.mean(floors) == pytest.approx(np.mean(squares) ** 0.5, rel=0.05)


def test_means_of_groups_are_their_principal_components_with_texts_around_them(store, found, whole) -> None:
    figure = whole.figures[2]
    panels = figure.axes
    assert [panel.get_title() for panel in panels] == list(SITES)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [*(f"module {g}" for g in range(4)), "mean of a text"]
    assert_no_overlap(figure)
    assert "Large marks are means of 4 groups" in caption_of(figure)
    for panel, site in zip(panels, SITES, strict=True):
        plane = plane_of_means(store, "sums", site)
        means = np.stack([mean.numpy() for _, mean in load_tables(store, "sums", site).groups.values()])
        values = np.linalg.svd(means - means.mean(0), compute_uv=False) ** 2
        assert panel.get_xlabel() == f"PC 1 ({values[0] / values.sum():.0%} between means)"
        assert panel.get_ylabel() == f"PC 2 ({values[1] / values.sum():.0%})"
        # In the plane they are as far apart as the findings say, but for what lies outside of it.
        distances = np.array(found.groups["sums"][site].distances)
        flat = np.linalg.norm(plane.groups[:, None] - plane.groups[None], axis=2)
        spread = load_statistics(store, "sums", site, "all", None).moments.covariance().trace() ** 0.5
        assert (flat <= distances * float(spread) + 1e-9).all()
        share = (flat**2).sum() / (distances**2).sum() / float(spread) ** 2
        assert share == pytest.approx(plane.explained.sum())
        # A cloud of its texts and a point per group; all tokens are texts, each next to its own group.
        assert len(panel.collections) == 8
        for group in range(4):
            own = plane.texts[plane.of_text == group]
            assert np.allclose(own.mean(0), plane.groups[group], atol=1e-5)
            assert np.allclose(panel.collections[2 * group + 1].get_offsets()[0], plane.groups[group])


def test_means_of_two_groups_lie_on_a_line_and_a_group_may_have_no_text(tmp_path, drawn) -> None:
    groups = torch.arange(DOCUMENTS) % 2
    texts = normal(DOCUMENTS, TOKENS, DIMENSIONS) + groups[:, None, None]
    write(tmp_path, "sums", "resid.0", texts, groups=groups)
    write(tmp_path, "none", "resid.0", texts, groups=groups, sample=1)
    for task, sampled in (("sums", DOCUMENTS), ("none", 1)):
        found = group_findings(tmp_path, task, "resid.0", seed=0)
        assert draw_means(tmp_path, task, {"resid.0": found}, tmp_path, quiet) is not None
        (panel,) = drawn[-1].axes
        assert panel.get_xlabel() == "PC 1"
        assert "2 means always lie in the components shown" in caption_of(drawn[-1])
        assert panel.get_ylabel() == ""
        heights = [points.get_offsets()[:, 1].tolist() for points in panel.collections]
        assert [set(own) for own in heights[1::2]] == [{0.0}, {1.0}]
        assert sum(map(len, heights[::2])) == sampled
    assert draw_means(tmp_path, "sums", {}, tmp_path, quiet) is None


@pytest.mark.usefixtures("drawn")
def test_a_site_that_could_not_be_read_is_left_out_of_figures_and_named_in_the_table(store, tmp_path) -> None:
    folder = tmp_path / "store"
    for task in ("sums", "text"):
        for site in SITES[:2]:
            target = folder / task / f"{site}.safetensors"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((store / task / f"{site}.safetensors").read_bytes())
    (folder / "text" / "resid.0.safetensors").write_bytes(b"half")
    found = findings(folder)
    assert len(draw_activations(folder, found, tmp_path, quiet)) == 5
    console = Console(width=160)
    with console.capture() as captured:
        console.print(task_table("text", found.tasks["text"], 160))
    assert "resid.0:" in captured.get()
    assert "damaged" in captured.get()


def test_the_table_has_a_few_sites_over_all_depth_and_no_empty_columns(found) -> None:
    sites = {f"resid.{i}": found.tasks["text"]["resid.1"] for i in range(31)}
    for width in (80, 1000):
        console = Console(width=width, file=io.StringIO())
        console.print(task_table("text", sites, width))
        said = console.file.getvalue()
        assert max(map(len, said.splitlines())) <= width
        shown = re.findall(r"^resid\.\d+", said, re.MULTILINE)
        assert shown[:: ROWS - 1][:2] == ["resid.0", "resid.30"]
        assert len(shown) % ROWS == 0
        assert "trace /" in said
        assert re.search(r"\d \(\d+\.\d+ to \d+\.\d+\)", said), "an interval stays on its line"
        assert "answer /" not in said  # a text has no answers
        assert "of sinks" not in said


@pytest.mark.faults
def test_an_encoder_decoder_has_findings_and_figures_of_both_stacks(tmp_path, drawn) -> None:
    """A real run of two tasks, one of which has no answers and so nothing for the decoder to read."""
    words = " ".join("1234567890123")
    (tmp_path / "lines.txt").write_text("".join(f"{words[3 * (i % 7) :]}\n" for i in range(40)))
    files = [{"name": "lines", "path": str(tmp_path / "lines.txt")}]
    model = encoder_decoder(tmp_path / "t5")
    plan = plan_activations(spec(model=str(model), sites="residual", files=files))
    folder = RunFolder(tmp_path / "run")
    outcomes = read(worker(plan, folder), plan, *range(len(plan.shards)))
    assert not any("failed" in outcome for outcome in outcomes), outcomes
    finish(plan, folder, {})

    found = findings(folder.store)
    paths = draw_activations(folder.store, found, tmp_path / "figures", quiet)
    assert len(paths) == 5
    pca, tsne, means, maps, depth = drawn
    sites = found.sites
    shown = spread_over(sites, PANELS)
    stacks = {site.partition(".")[0] for site in shown}
    assert stacks == {"encoder", "decoder"}
    for planes in (pca, tsne, means):
        assert [panel.get_title().partition(" (n")[0] for panel in planes.axes if panel.axison] == shown
    # One empty place on every axis of depth, and no line over it.
    gap = along_depth(sites).index("")
    assert sites[gap - 1] == "encoder.final"
    assert sites[gap] == "decoder.resid.0"
    norms = depth.axes[0].lines[0].get_ydata()
    assert np.isfinite(norms).sum() == len(sites)
    assert np.isnan(norms[gap])
    assert np.isnan(maps.axes[3].lines[0].get_ydata()[gap])
    assert along_depth(["resid.0", "final"]) == ["resid.0", "final"]

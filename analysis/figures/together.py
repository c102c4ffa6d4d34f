"""The figures of a study that show all its cells together."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.figures.attention import attention_of, draw_attention
from analysis.figures.forgetting import draw_forgetting, forgetting_of
from analysis.figures.learning_curves import curves_of, draw_curves
from analysis.figures.left_out import left_out
from analysis.figures.losses import draw_losses, losses_of
from analysis.figures.moved import draw_moved, moved_of
from analysis.figures.palette import Looks
from analysis.figures.profile import draw_profile, profile_of
from analysis.figures.radii import draw_radii, radii_of
from analysis.figures.rates import draw_rates, rate_map_of
from analysis.figures.settings import Draw
from analysis.figures.style import PANELS
from analysis.figures.survival import draw_survival, survival_of
from analysis.figures.transfer import draw_transfer, transfer_of
from analysis.findings.study import Cell, Study
from softprior.inputs.labels import counted


def of_all(study: Study, cells: Sequence[Cell], looks: Looks) -> dict[str, Draw]:
    """Figures of all cells together."""

    def survival() -> Figure | None:
        known = [own for cell in cells if (own := survival_of(cell)) is not None]
        return draw_survival(known, looks=looks) if known else None

    def radii() -> Figure | None:
        known = radii_of(study, cells)
        return draw_radii(known, looks=looks) if known else None

    def forgetting() -> Figure | None:
        known = [own for cell in cells if (own := forgetting_of(study, cell)) is not None]
        return draw_forgetting(known, looks=looks) if known else None

    def attention() -> Figure | None:
        known = [own for cell in cells if (own := attention_of(cell)) is not None]
        return draw_attention(known, looks=looks) if known else None

    def transfer() -> Figure | None:
        known = transfer_of(study)
        if len(known) > PANELS:
            left_out(f"transfer shows {PANELS} of {counted(len(known), 'combination')} of prior and method")
        return draw_transfer(known[:PANELS]) if known else None

    def rates() -> Figure | None:
        known = [rate_map_of(cell) for cell in cells]
        return draw_rates(known) if any(len(one.rates) > 1 for one in known) else None

    def profile() -> Figure | None:
        known = profile_of(study)
        return None if known is None else draw_profile(known, looks=looks)

    return {
        "test-loss": lambda: draw_losses([losses_of(cell) for cell in cells], looks=looks),
        "learning-curves": lambda: draw_curves([curves_of(cell) for cell in cells], looks=looks),
        "survival": survival,
        "moved-over-reach": lambda: draw_moved([moved_of(cell) for cell in cells], looks=looks),
        "rates": rates,
        "profile": profile,
        "forgetting": forgetting,
        "transfer": transfer,
        "attention": attention,
        "radii": radii,
    }

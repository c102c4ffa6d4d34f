"""Pulls each vector to the real token that is nearest to it: prompts that can be read."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.regularisers.base import Regulariser, Setting, Term


class NearestToken(Regulariser):
    """Mean squared Euclidean distance to the nearest token, over the mean squared norm of tokens.

    Which token is nearest is decided anew at each step and is not differentiated.
    """

    def term(self, setting: Setting) -> Term:
        table = setting.source.vocabulary().float().cpu()
        squares = table.square().sum(1)
        size = float(squares.double().mean())

        def penalty(vectors: Float[Tensor, "P H"]) -> Float[Tensor, ""]:
            with torch.no_grad():
                # The vector's own square is the same for every token and left out.
                chosen = (squares - 2 * vectors.float() @ table.T).argmin(1)
            return (vectors.double() - table[chosen].double()).square().sum(1).mean() / size

        return penalty

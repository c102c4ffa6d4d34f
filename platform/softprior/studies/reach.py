"""Finds out within seconds whether a Ray cluster can be reached: Ray itself tries for over a minute."""

from __future__ import annotations

import re
import socket

from softprior.errors import UserError
from softprior.studies import ray_private

PATIENCE = 10.0
"""Seconds that a cluster has to answer."""


class UnansweredError(UserError):
    """Nobody answers, which passes where a cluster is only starting.

    Attributes:
        reason: in a few words.
    """

    reason: str = ""


def resolved(address: str) -> str:
    """The address that `auto`, the cluster of this machine, stands for; others as they are.

    Raises:
        UserError: there is no such cluster.
    """
    if address != "auto":
        return address
    try:
        return ray_private.cluster_of_this_machine()
    except ConnectionError:
        raise nobody(address, "this machine has none") from None


def require_reachable(address: str) -> None:
    """Asks the cluster at HOST:PORT for its id; addresses of another form are left to Ray.

    Raises:
        UnansweredError: nobody answers there.
        UserError: the token is wrong.
    """
    if address.startswith(("http://", "https://")):
        raise UserError(
            f"RAY_ADDRESS={address} is where jobs are submitted; give it to `ray job submit --address`, or "
            "set RAY_ADDRESS to HOST:PORT of the head, most often port 6379"
        )
    if address.startswith("ray://"):
        raise UserError(
            f"RAY_ADDRESS={address} is for Ray's client, which Tune does not run on; submit a job, or set "
            "RAY_ADDRESS to HOST:PORT of the head, most often port 6379"
        )
    if not re.fullmatch(r"[^/:]+:\d+", address):
        return
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise nobody(address, getattr(error, "strerror", None) or str(error)) from None
    import grpc
    from ray.exceptions import AuthenticationError

    try:
        ray_private.ask_for_id(address, PATIENCE)
    except AuthenticationError as error:
        raise _token(address, str(error).split(". ")[0]) from None
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise _token(address, "it refused the one of this process") from None
        raise nobody(address, f"{error.code().name.lower()}") from None


def nobody(address: str, reason: str) -> UnansweredError:
    """The error of an address without a cluster."""
    error = UnansweredError(
        f"no Ray cluster answers at RAY_ADDRESS={address} ({reason}); start it, or unset RAY_ADDRESS to run "
        "here"
    )
    error.reason = reason
    return error


def other_versions(address: str, text: str) -> UserError:
    """The error of a cluster with other versions, from what Ray says about them."""
    found = [
        f"Ray {ray} and Python {python}" for ray, python in re.findall(r"Ray: (\S+)\s+Python: (\S+)", text)
    ]
    there, here = found if len(found) == 2 else ("other versions", "its own")
    return UserError(
        f"the cluster at RAY_ADDRESS={address} runs {there}, but this process {here}; install the versions "
        "of requirements.lock in both"
    )


def _token(address: str, reason: str) -> UserError:
    return UserError(
        f"the cluster at RAY_ADDRESS={address} asks for its token ({reason}); set RAY_AUTH_MODE=token and "
        "RAY_AUTH_TOKEN_PATH to the file that contains it"
    )

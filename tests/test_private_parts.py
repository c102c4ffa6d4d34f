"""Private parts of other libraries: each is where softprior expects it, and used in one module alone."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch

from softprior.assets import transformers_private
from softprior.models import deepspeed_private, torch_private
from softprior.studies import ray_agent, ray_private
from softprior.studies.deaths import every_death_is_one
from softprior.studies.search import optuna_private
from softprior.tracking import mlflow_private
from tests.test_imports import ROOT, SOURCES, imports

MODULES = {
    "deepspeed": deepspeed_private,
    "mlflow": mlflow_private,
    "optuna": optuna_private,
    "ray": ray_private,
    "torch": torch_private,
    "transformers": transformers_private,
}
"""The module with all private parts of each library."""


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


# Ray


def test_ray_finds_the_cluster_of_this_machine() -> None:
    from ray._private.services import canonicalize_bootstrap_address

    assert parameters(canonicalize_bootstrap_address)[0] == "addr"


def test_ray_asks_a_head_for_its_id() -> None:
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    assert parameters(init_grpc_channel)[0] == "address"
    service = gcs_service_pb2.DESCRIPTOR.services_by_name["NodeInfoGcsService"]
    method = service.methods_by_name["GetClusterId"]
    assert method.input_type.name == gcs_service_pb2.GetClusterIdRequest.DESCRIPTOR.name
    assert parameters(gcs_service_pb2_grpc.NodeInfoGcsServiceStub.__init__) == ["self", "channel"]


def test_ray_waits_for_its_own_node_and_says_when_it_gives_up() -> None:
    from ray._private import services
    from ray._private.node import Node

    source = inspect.getsource(Node.__init__)
    assert "ray._private.services.get_node(" in source
    assert "except RuntimeError" in source
    assert parameters(services.get_node) == ["gcs_address", "node_id"]
    assert ray_private.LATE in re.sub(r'"\s+"', "", source)


def test_a_wait_for_a_node_ends_when_nobody_waits_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    def unknown(*_: object) -> None:
        raise RuntimeError("no such node")

    monkeypatch.setattr(services, "get_node", unknown)
    with ray_private.long_wait(1e9, lambda: True), pytest.raises(ray_private.LateError, match="no such node"):
        services.get_node("", "")


def test_ray_asks_for_the_command_line_through_its_module() -> None:
    from ray._private import utils, worker

    assert parameters(utils.get_entrypoint_name) == []
    assert "utils.get_entrypoint_name()" in inspect.getsource(worker)
    own = utils.get_entrypoint_name
    with ray_private.command_shown_as(lambda command: f"hidden {command}"):
        assert utils.get_entrypoint_name() == f"hidden {own()}"
    assert utils.get_entrypoint_name is own


def test_ray_starts_what_a_bare_cluster_lacks_by_methods_of_a_node() -> None:
    from ray._private.node import Node

    source = inspect.getsource(Node)
    names = {"start_monitor": [], "start_log_monitor": []}
    names |= {"start_api_server": ["include_dashboard", "raise_on_failure"]}
    own = {name: getattr(Node, name) for name in names}
    for name, options in names.items():
        assert parameters(own[name]) == ["self", *options]
        assert f"self.{name}(" in source
    with ray_private.bare_cluster():
        assert all(getattr(Node, name) is not own[name] for name in names)
    assert all(getattr(Node, name) is own[name] for name in names)


def test_ray_starts_its_process_for_a_node_by_a_function_that_is_given_the_command(tmp_path) -> None:
    from ray import _raylet
    from ray._private import services, utils

    assert parameters(services.start_ray_process)[0] == "command"
    source = inspect.getsource(services.start_raylet)
    assert "start_ray_process(\n" in source
    assert "ray._private.utils.get_dashboard_dependency_error()" in source
    options = (ray_private.AHEAD, ray_private.AGENT, ray_private.FOLDER, ray_private.NODE)
    assert all(option in source for option in options)
    values = (2, "a.py", tmp_path, "n")
    raylet = [f"{option}{value}" for option, value in zip(options, values, strict=True)]
    started: list[list[str]] = []
    own = (services.start_ray_process, utils.get_dashboard_dependency_error)
    try:
        services.start_ray_process = started.append
        with ray_private.bare_cluster(), ray_private.one_worker_ahead():
            assert isinstance(utils.get_dashboard_dependency_error(), ImportError)
            services.start_ray_process(["another", "program"])
            services.start_ray_process(raylet)
        assert services.start_ray_process == started.append
    finally:
        services.start_ray_process = own[0]
    assert utils.get_dashboard_dependency_error is own[1]
    assert started[0] == ["another", "program"]
    ahead, agent, *others = started[1]
    assert ahead == f"{ray_private.AHEAD}1"
    assert agent.endswith("ray_agent.py")
    assert others == raylet[2:]
    for name in ray_private.PORTS:
        assert _raylet.wait_for_persisted_port(str(tmp_path), "n", getattr(_raylet, name), 100) == -1


def test_what_stands_in_for_an_agent_of_ray_ends_with_its_parent() -> None:
    from ray._private import process_watcher

    assert '"RAY_RAYLET_PID"' in inspect.getsource(process_watcher), "agents do not learn of whom they are"
    program = [sys.executable, "-I", "-S", ray_agent.__file__]
    started = f"subprocess.Popen({program!r}, env={{'RAY_RAYLET_PID': str(os.getpid())}})"
    parent = [sys.executable, "-I", "-S", "-c", f"import os, subprocess; {started}; print('started')"]
    # The pipe is read to its end: until nobody holds it any more.
    assert subprocess.check_output(parent, timeout=60) == b"started\n"


def test_tune_counts_callbacks_by_a_function_of_a_module() -> None:
    from ray.air._internal import usage
    from ray.tune import tune

    assert "air_usage.tag_callbacks(callbacks)" in inspect.getsource(tune)
    assert tune.air_usage is usage
    own = usage.tag_callbacks
    with ray_private.callbacks_uncounted():
        assert usage.tag_callbacks([object()]) is None
    assert usage.tag_callbacks is own


def test_tune_takes_the_environment_of_trials_from_two_collections() -> None:
    from ray.tune.execution import class_cache

    class Runs:
        """Stands for what runs a trial."""

    own = dict(class_cache.DEFAULT_ENV_VARS)
    with ray_private.trials_without_environment():
        assert class_cache._ActorClassCache().get(Runs)._default_options["runtime_env"] == {}
    assert own == class_cache.DEFAULT_ENV_VARS


def test_ray_makes_its_backend_from_a_class_of_its_compiled_module() -> None:
    from ray import _raylet
    from ray._private import worker

    assert isinstance(_raylet.CoreWorker, type)
    made = re.search(r"\.CoreWorker\(\n(.*?)\n    \)", inspect.getsource(worker), re.DOTALL)
    assert made is not None
    assert not re.search(r"^\s+\w+=", made[1], re.MULTILINE), "it is given arguments by name"


def test_ray_has_an_option_for_the_folder_of_sessions() -> None:
    import ray

    assert f'kwargs.pop("{ray_private.TEMPORARY}"' in inspect.getsource(inspect.unwrap(ray.init))


def test_tune_learns_of_failed_tasks_by_a_method() -> None:
    from ray.air.execution._internal import RayActorManager

    assert parameters(RayActorManager._actor_task_failed) == ["self", "tracked_actor_task", "exception"]
    seen: list[Exception] = []
    own = RayActorManager._actor_task_failed
    with ray_private.errors_of_actors_as(lambda error: seen.append(error) or error):
        assert parameters(RayActorManager._actor_task_failed) == parameters(own)
    assert RayActorManager._actor_task_failed is own


def test_tune_counts_the_loss_of_an_actor_between_two_trials_once() -> None:
    """Tune's own method, told twice of a trial as it is while an actor gets ready for it."""
    from ray.exceptions import RayActorError
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

    actor = inspect.getsource(TuneController._actor_failed)
    assert "self._set_trial_status(trial, Trial.RUNNING)" in actor
    assert "self._trial_task_failure(trial, exception=exception)" in actor
    assert "on_error=self._trial_task_failure" in inspect.getsource(TuneController._schedule_trial_reset)
    counted: list[Exception] = []

    def count(one: Trial, exception: Exception) -> None:
        counted.append(exception)
        one.set_status(Trial.PENDING)  # it is to start again

    once, other = RayActorError(), RayActorError()
    for told in ([once, once], [once, other]):  # the second was not told by the actor
        trial = Trial("run_trial", stub=True)
        trial.set_status(Trial.RUNNING)
        controller = SimpleNamespace(
            RAISE=TuneController.RAISE,
            _fail_fast=False,
            _print_trial_errors=False,
            _process_trial_failure=count,
            _resetting_trials={trial},
        )
        counted.clear()
        with ray_private.lost_resets_as_losses():
            for error in told:
                TuneController._trial_task_failure(controller, trial, exception=error)
        assert counted == list(dict.fromkeys(told))
        assert not controller._resetting_trials, "it would get no other actor"


def test_tune_tells_a_trial_of_a_lost_answer_as_of_its_actors_loss() -> None:
    """From the actor and then from its task, by one error: see `lost_resets_as_losses`."""
    from ray.air.execution._internal import RayActorManager
    from ray.exceptions import ObjectLostError, RayActorError

    told: list[tuple[str, Exception]] = []
    actor = SimpleNamespace(actor_id=1, _on_error=lambda _, error: told.append(("actor", error)))
    task = SimpleNamespace(_tracked_actor=actor, _on_error=lambda _, error: told.append(("task", error)))
    manager = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda **_: None)
    with every_death_is_one():
        RayActorManager._actor_task_failed(manager, task, ObjectLostError("0", None, ""))
    assert [who for who, _ in told] == ["actor", "task"]
    assert told[0][1] is told[1][1]
    assert isinstance(told[0][1], RayActorError)


# Optuna


def test_optuna_maps_parameters_to_a_unit_cube_and_back() -> None:
    from optuna.distributions import FloatDistribution, IntDistribution

    space = {"rate": FloatDistribution(1e-4, 1e-1, log=True), "width": IntDistribution(2, 10, step=2)}
    cube = optuna_private.unit_cube(space)
    assert cube.bounds.tolist() == [[0, 1], [0, 1]]
    point = {"rate": 1e-2, "width": 4}
    assert cube.transform(point).tolist() == pytest.approx([2 / 3, 0.3])
    assert cube.untransform(cube.transform(point)) == pytest.approx(point)


def test_optuna_says_what_a_distribution_contains() -> None:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    for distribution, inside, outside in (
        (FloatDistribution(0.0, 1.0), 0.5, 1.5),
        (IntDistribution(2, 10, step=2), 4, 5),
        (CategoricalDistribution(["a", "b"]), "b", None),
    ):
        assert optuna_private.contains(distribution, inside)
        if outside is not None:
            assert not optuna_private.contains(distribution, outside)
    with pytest.raises(ValueError, match="c"):
        optuna_private.contains(CategoricalDistribution(["a", "b"]), "c")


# DeepSpeed


def test_torch_has_a_limit_of_kinds_of_passes() -> None:
    from torch._dynamo import config

    assert config.recompile_limit < torch_private.KINDS


def test_torch_attends_to_sequences_of_different_lengths_by_one_operator() -> None:
    query, key, value = (
        torch.empty(count, heads, 8, dtype=torch.bfloat16, device="meta", requires_grad=True)
        for count, heads in ((5, 4), (7, 2), (7, 2))
    )
    ends = torch.empty(3, dtype=torch.int32, device="meta")
    for window in (None, 4):
        out = torch_private.flash_attention(query, key, value, ends, ends, (3, 4), None, window)
        assert out.shape == query.shape
        assert "FlashAttention" in type(out.grad_fn).__name__
        out.sum().backward()
    assert key.grad is not None


def test_deepspeed_reads_its_operators_from_a_table_that_can_be_changed() -> None:
    pytest.importorskip("deepspeed")
    from deepspeed.ops.op_builder.cpu.comm import ShareMemCommBuilder

    assert ShareMemCommBuilder.NAME == deepspeed_private.SHARED_MEMORY
    assert "deepspeed.ops.__compatible_ops__" in inspect.getsource(import_module("deepspeed.comm.torch"))


def test_deepspeed_keeps_what_a_weight_is_on_it() -> None:
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.zero import partition_parameters

    text = inspect.getsource(partition_parameters)
    for name in ("ds_shape", "ds_numel", "ds_tensor", "ds_status", "ds_persist"):
        assert re.search(rf"param\.{name} = ", text), name
    assert "AVAILABLE" in partition_parameters.ZeroParamStatus.__members__


def test_deepspeed_releases_weights() -> None:
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.zero.parameter_offload import DeepSpeedZeRoOffload

    assert parameters(DeepSpeedZeRoOffload.release_backward_leftovers) == ["self"]
    assert parameters(DeepSpeedZeRoOffload.empty_partition_cache) == ["self"]


# transformers


def test_transformers_keeps_the_attention_in_the_config() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=9, attn_implementation="eager", **sizes))
    assert transformers_private.attention_of(network) == "eager"
    network.set_attn_implementation("sdpa")
    assert transformers_private.attention_of(network) == "sdpa"


def test_transformers_reads_headers_of_gguf_files() -> None:
    from transformers.integrations.gguf import reader

    assert len(parameters(reader._mapped)) == 1
    assert parameters(reader._read_metadata)[:2] == ["blob", "gguf_path"]
    assert parameters(reader._read_tensor_table) == ["blob", "tensor_count", "pos"]


def test_transformers_refuses_to_save_by_the_quantiser() -> None:
    from transformers import PreTrainedModel

    assert "hf_quantizer" in inspect.getsource(PreTrainedModel.save_pretrained)


# MLflow


def test_mlflow_makes_a_database_by_opening_it() -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    assert parameters(SqlAlchemyStore.__init__)[1:3] == ["db_uri", "default_artifact_root"]
    assert "self.engine" in inspect.getsource(SqlAlchemyStore.__init__)


@pytest.mark.parametrize(("table", "column"), mlflow_private.PLACES)
def test_mlflow_has_the_columns_with_addresses(table: str, column: str) -> None:
    from mlflow.store.tracking.dbmodels.models import Base

    assert column in Base.metadata.tables[table].columns


def test_mlflows_pages_read_a_view_from_a_tag() -> None:
    """Their scripts are minified, but keys of a saved state and of an address stay as they are."""
    import mlflow.server

    pages = Path(mlflow.server.__file__).parent / "js" / "build" / "static" / "js"
    scripts = "".join(path.read_text("utf-8") for path in pages.glob("*.js"))
    address = mlflow_private.page("1", "view")
    words = [mlflow_private.VIEW, mlflow_private.KIND, mlflow_private.TRAINING, *mlflow_private.STATE]
    words += re.findall(r"[?&](\w+)=", address)
    assert len(words) > len(mlflow_private.STATE) + 5
    assert [word for word in words if word not in scripts] == []


def test_a_view_uses_the_keys_that_are_looked_up_in_mlflows_pages() -> None:
    from softprior.tracking.view import view

    assert tuple(view([{"task": "arithmetic"}])) == mlflow_private.STATE


# Where they are


@pytest.mark.parametrize("library", MODULES)
def test_a_module_names_the_version_in_the_lock_file(library: str) -> None:
    said = re.search(r"checked on \w+ ([\d.]*\d)", inspect.getdoc(MODULES[library]) or "")
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = re.search(rf"^{library}==(\S+)", lock, re.MULTILINE)
    assert said is not None
    assert locked is not None
    assert said[1] == locked[1], f"run this file with {library} {locked[1]}, then change the docstring"


def test_private_modules_are_imported_in_one_place() -> None:
    allowed = {module.__name__ for module in MODULES.values()}
    found = {
        module: name
        for module, path in SOURCES.items()
        for _, name in imports(path)
        if name.split(".")[0] in MODULES and re.search(r"\._[a-z]", name)
    }
    assert set(found) <= allowed, found
    assert {"softprior.studies.ray_private", "softprior.studies.search.optuna_private"} <= set(found)


def test_private_attributes_are_used_in_one_place() -> None:
    """A private name is our own if something of ours is defined with it."""
    allowed = {module.__name__ for module in MODULES.values()}
    public = {"__compatible_ops__", "hf_quantizer", "start_monitor"}  # in name alone
    names = {module: names_of(path) for module, path in SOURCES.items()}
    own = {"_asdict", "_exit", "_fields", "_replace"}.union(*(defined for defined, _ in names.values()))
    for module, (_, used) in names.items():
        private = {name for name in used if name.startswith("_") and not name.endswith("__")} - own
        foreign = private | (used & public) | {name for name in used if name.startswith("ds_")}
        assert not foreign or module in allowed, f"{module} uses {foreign}"


def names_of(path: Path) -> tuple[set[str], set[str]]:
    """Names of functions and classes and of what is assigned to, also on `self`; and of attributes."""
    defined, used = set(), set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute):
            used.add(node.attr)
            if isinstance(node.ctx, ast.Store):
                defined.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
    return defined, used


def test_optuna_stores_what_trials_of_other_processes_report() -> None:
    study = optuna.create_study()
    study.ask()
    optuna_private.store_loss(study, 0, 3, 1.5)
    optuna_private.store_attribute(study, 0, "reason", "why")
    (found,) = study.get_trials()
    assert (found.intermediate_values, found.user_attrs) == ({3: 1.5}, {"reason": "why"})
    assert optuna_private.taken_up(study, found).number == 0

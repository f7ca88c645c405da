from __future__ import annotations

import pytest
import torch

from embedkit.errors import BundleError
from embedkit.training.checkpoint import Checkpoints, pack, read_state, unpack, write_state


def test_nested_state_comes_back():
    shared = torch.arange(3)
    state = {
        "a": [1, 2.5, None, True, "text", (1, ("x",))],
        3: {"tensor": shared, "again": shared, "empty": torch.empty(0, 4), "scalar": torch.tensor(7.0, dtype=torch.float64)},
        "view": torch.arange(12).view(3, 4).T,
        "bfloat16": torch.randn(2, 2).bfloat16(),
        "inf": float("inf"),
    }
    skeleton, tensors = pack(state)
    found = unpack(skeleton, tensors)
    assert found["a"] == state["a"]
    assert type(found["a"][5]) is tuple
    for name in ("tensor", "again", "empty", "scalar"):
        assert torch.equal(found[3][name], state[3][name])
    assert torch.equal(found["view"], state["view"])
    assert found["bfloat16"].dtype == torch.bfloat16
    assert found["inf"] == float("inf")
    assert len([t for t in tensors.values() if torch.equal(t, shared)]) == 1


def test_what_is_no_state_is_told():
    with pytest.raises(TypeError, match=r"a\.b: a state may hold .* not set"):
        pack({"a": {"b": {1}}})


def test_the_last_two_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3, 4):
        if step in (1, 3):
            checkpoints.save_best(step, {"w": torch.tensor(float(step))})
        checkpoints.save(step, {"step": step}, 3 if step >= 3 else 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best-000000003", "step-000000003", "step-000000004"]
    assert read_state(checkpoints.newest())["step"] == 4
    assert float(checkpoints.load_best(3)["w"]) == 3.0


def test_best_weights_that_the_older_checkpoint_refers_to_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(1, {"w": torch.ones(1)})
    checkpoints.save(1, {}, 1)
    checkpoints.save_best(2, {"w": torch.ones(1)})
    checkpoints.save(2, {}, 2)
    assert sorted(p.name for p in tmp_path.glob("best-*")) == ["best-000000001", "best-000000002"]
    checkpoints.save(3, {}, 2)
    assert [p.name for p in tmp_path.glob("best-*")] == ["best-000000002"]


def test_a_crash_while_writing_leaves_the_older_checkpoint(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"step": 1}, None)
    monkeypatch.setattr("embedkit.training.checkpoint.save_file", lambda *_: (_ for _ in ()).throw(RuntimeError("power")))
    with pytest.raises(RuntimeError, match="power"):
        checkpoints.save(2, {"step": 2}, None)
    assert read_state(checkpoints.newest())["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000001"]


def test_finish_leaves_the_weights_alone(tmp_path):
    checkpoints = Checkpoints(tmp_path / "stage")
    assert checkpoints.finished() is None
    checkpoints.save(5, {}, None)
    checkpoints.finish({"w": torch.ones(2)}, {"steps": 5})
    assert [p.name for p in (tmp_path / "stage").iterdir()] == ["done"]
    assert checkpoints.finished()["result"] == {"steps": 5}


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_a_damaged_checkpoint_is_told(tmp_path, name):
    write_state(tmp_path / "step-1", {"w": torch.ones(8)})
    file = tmp_path / "step-1" / name
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(BundleError, match="cannot be read"):
        read_state(tmp_path / "step-1")

"""RecBole's SASRec, trained by RecBole's own interpreter. Arguments: an .npz file of events, the number of threads, and perhaps an output.

Without an output (``next_item.py``): for each line on standard input, a number of batches, it trains on as many and answers with one line
of JSON: seconds and the last loss. With one (``docs/studies/sequences/rival.py``): it trains to the end, a line of JSON an epoch, and
writes the rank of each user's test item to that .npz file. Stopped between two epochs, it goes on from the state beside that file.
"""

import json
import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

for name, kind in {"float": float, "int": int, "bool": bool}.items():  # RecBole 1.2.1 still uses names that numpy took away in 1.24
    if name not in np.__dict__:
        setattr(np, name, kind)

import recbole  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.model.sequential_recommender import SASRec  # noqa: E402

logging.disable(logging.CRITICAL)


def prepared(events, root):
    """The model and the three loaders, of events in a folder that RecBole reads them from."""
    folder = Path(root) / "events"
    folder.mkdir()
    lines = [f"{u}\t{i}\t{p}" for u, i, p in zip(events["user"], events["item"], events["position"], strict=True)]
    (folder / "events.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines]) + "\n")
    width = int(events["width"])
    config = Config(
        model=SASRec,
        dataset="events",
        config_dict={
            "data_path": root,
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "MAX_ITEM_LIST_LENGTH": 50,
            "hidden_size": width,
            "inner_size": 4 * width,
            "n_layers": 2,
            "n_heads": 2,
            "loss_type": "CE",
            "train_neg_sample_args": None,
            **({"train_batch_size": int(events["batch"])} if "batch" in events else {}),
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
            "use_gpu": False,
            "show_progress": False,
            "reproducibility": False,
        },
    )
    dataset = create_dataset(config)
    loaders = data_preparation(config, dataset)
    model = SASRec(config, loaders[0].dataset)
    model.train()
    return model, loaders


def step(model, optimizer, batch):
    """One step; returns its loss."""
    optimizer.zero_grad()
    loss = model.calculate_loss(batch)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def serve(model, train, optimizer):
    """Train on as many batches as each line of standard input says."""

    def forever():
        while True:
            yield from train

    batches = forever()
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            loss = step(model, optimizer, next(batches))
        print(json.dumps({"seconds": time.perf_counter() - start, "loss": loss}), flush=True)


@torch.no_grad()
def ranks(model, part, size=512):
    """Token of each user, and the rank of the item asked for, from 1, among all that are not in the history (RecBole keeps those in)."""
    model.eval()
    rows = part.dataset.inter_feat
    generator = torch.Generator().manual_seed(0)
    found = []
    for lo in range(0, len(rows), size):
        some = rows[lo : lo + size]
        target = some["item_id"]
        scores = model.full_sort_predict(some)
        own = scores.gather(1, target[:, None])
        scores.scatter_(1, some["item_id_list"], -torch.inf)
        scores[:, 0] = -torch.inf
        ties = (scores == own).sum(1) - (scores.gather(1, target[:, None]) == own)[:, 0].long()
        behind = (torch.rand(len(target), generator=generator) * (ties + 1)).long()
        found.append((scores > own).sum(1) + behind + 1)
    model.train()
    return part.dataset.id2token("user_id", rows["user_id"].numpy()), torch.cat(found).numpy()


def ndcg(rank, k=10):
    """NDCG of one relevant item a query."""
    return float(np.where(rank <= k, 1 / np.log2(rank + 1), 0).mean())


def fit(model, loaders, optimizer, out, patience, epochs):
    """Train until validation NDCG@10 has not risen for ``patience`` epochs, and rank the test items with the best weights."""
    train, valid, test = loaders
    state, beside = Path(f"{out}.state"), Path(f"{out}.state.new")
    told = {"best": -1.0, "kept": None, "waited": 0, "seconds": 0.0, "total": 0.0, "epoch": 0}
    if state.exists():
        found = torch.load(state, weights_only=True)
        model.load_state_dict(found["model"])
        optimizer.load_state_dict(found["optimizer"])
        torch.set_rng_state(found["random"])
        told = found["told"]
    before = told["total"]
    while told["epoch"] < epochs and told["waited"] < patience:
        start = time.perf_counter()
        loss = [step(model, optimizer, batch) for batch in train][-1]
        told["seconds"] += time.perf_counter() - start
        told["epoch"] += 1
        value = ndcg(ranks(model, valid)[1])
        told["waited"] = 0 if value > told["best"] else told["waited"] + 1
        if value > told["best"]:
            told["best"], told["kept"] = value, {name: tensor.clone() for name, tensor in model.state_dict().items()}
        told["total"] = before + time.perf_counter() - BEGAN
        line = {"epoch": told["epoch"], "train_seconds": told["seconds"], "seconds": told["total"], "loss": loss, "ndcg@10": value}
        print(json.dumps(line), flush=True)
        random = torch.get_rng_state()
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": random, "told": told}, beside)
        beside.replace(state)
    model.load_state_dict(told["kept"])
    user, rank = ranks(model, test)
    np.savez(out, user=user.astype(str), rank=rank)


BEGAN = time.perf_counter()
torch.set_num_threads(int(sys.argv[2]))
with np.load(sys.argv[1], allow_pickle=False) as data, tempfile.TemporaryDirectory(prefix="recbole-") as root:
    torch.manual_seed(int(data["seed"]) if "seed" in data else 0)
    model, loaders = prepared(data, root)
    patience, epochs = (int(data[name]) if name in data else 0 for name in ("patience", "epochs"))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
versions = {"version": recbole.__version__, "numpy": np.__version__, "torch": torch.__version__}
print(json.dumps({**versions, "batches": len(loaders[0]), "rows": len(loaders[0].dataset)}), flush=True)
if len(sys.argv) > 3:
    fit(model, loaders, optimizer, sys.argv[3], patience, epochs)
else:
    serve(model, loaders[0], optimizer)

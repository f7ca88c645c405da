"""RecBole's SASRec, trained by RecBole's own interpreter: see ``next_item.py``. Arguments: an .npz file and the number of threads.

For each line on standard input, a number of batches, it trains on as many and answers with one line of JSON: seconds, batches an epoch and
the last loss.
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
torch.set_num_threads(int(sys.argv[2]))
with np.load(sys.argv[1], allow_pickle=False) as data:
    user, item, position, width = data["user"], data["item"], data["position"], int(data["width"])
with tempfile.TemporaryDirectory(prefix="recbole-") as root:
    folder = Path(root) / "events"
    folder.mkdir()
    lines = [f"{u}\t{i}\t{p}" for u, i, p in zip(user, item, position, strict=True)]
    (folder / "events.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines]) + "\n")
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
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
            "use_gpu": False,
            "show_progress": False,
            "reproducibility": False,
        },
    )
    dataset = create_dataset(config)
    train = data_preparation(config, dataset)[0]
model = SASRec(config, train.dataset)
model.train()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
versions = {"version": recbole.__version__, "numpy": np.__version__, "torch": torch.__version__}
print(json.dumps({**versions, "batches": len(train), "rows": len(train.dataset)}), flush=True)


def forever():
    """Batches, epoch after epoch."""
    while True:
        yield from train


batches = forever()
for line in sys.stdin:
    start = time.perf_counter()
    for _ in range(int(line)):
        optimizer.zero_grad()
        loss = model.calculate_loss(next(batches))
        loss.backward()
        optimizer.step()
    print(json.dumps({"seconds": time.perf_counter() - start, "loss": float(loss.detach())}), flush=True)

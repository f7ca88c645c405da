"""RecBole's evaluation, run by RecBole's own interpreter: see ``ranking.py``. Arguments: an .npz file and the number of threads.

For each line on standard input, a number of queries a batch, it evaluates once and answers with one line of JSON: seconds and figures.
"""

import json
import sys
import time

import numpy as np
import torch

for name, kind in {"float": float, "int": int, "bool": bool}.items():  # RecBole 1.2.1 still uses names that numpy took away in 1.24
    if name not in np.__dict__:
        setattr(np, name, kind)

import recbole  # noqa: E402
from recbole.evaluator import Collector, Evaluator  # noqa: E402

torch.set_num_threads(int(sys.argv[2]))
with np.load(sys.argv[1], allow_pickle=False) as data:
    scores, items, offsets = torch.from_numpy(data["scores"]), torch.from_numpy(data["items"]), data["offsets"]
    metrics, ks = [str(name) for name in data["metrics"]], data["ks"].tolist()
query = torch.from_numpy(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)))
config = {
    "metrics": metrics,
    "topk": ks,
    "metric_decimal_place": 10,
    "device": torch.device("cpu"),
    "eval_args": {"mode": "full"},
}
print(json.dumps({"version": recbole.__version__, "numpy": np.__version__, "torch": torch.__version__}), flush=True)

for line in sys.stdin:
    size = int(line)
    start = time.perf_counter()
    collector, evaluator = Collector(config), Evaluator(config)
    for lo in range(0, len(scores), size):
        hi = min(lo + size, len(scores))
        part = slice(int(offsets[lo]), int(offsets[hi]))
        collector.eval_batch_collect(scores[lo:hi], None, query[part] - lo, items[part])
    found = evaluator.evaluate(collector.get_data_struct())
    print(json.dumps({"seconds": time.perf_counter() - start, "found": {k: float(v) for k, v in found.items()}}), flush=True)

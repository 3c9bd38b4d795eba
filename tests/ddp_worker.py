"""One of two processes that find tickets: `torchrun --nproc-per-node 2 tests/ddp_worker.py STORE OUT DIE HOW ...`.

Each four words are one ticket. Writes what it found to OUT/RANK.json. With DIE above 0, rank 0 kills itself within the
training of that number.
Annotations are no strings here: torch reads those of a communication hook.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from own_loops import mlp
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from tombola import TombolaError, find_ticket
from tombola.levels import now
from tombola.tensors import digest_tensors


def find(store: str, out: Path, die: int, how: str) -> None:
    """Find a ticket, and say what was seen on the way."""
    rank, runs, dirty, checked = dist.get_rank(), 0, 0.0, 0
    torch.manual_seed(rank)  # the ranks begin with different weights

    def seen(state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        """What is about to be reduced over the processes: 0 at pruned places already."""
        nonlocal dirty, checked
        going = now()
        assert going is not None
        for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
            name = next(n for n, p in model.named_parameters() if p is parameter)
            if name in going.mask:
                gone = gradient.view_as(parameter)[~going.mask[name]]
                checked += gone.numel()
                dirty = max(dirty, float(gone.abs().max()) if gone.numel() else 0.0)
        return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda f: f.value()[0] / 2)

    def train(module: nn.Module) -> None:
        nonlocal runs
        runs += 1
        trained = module
        if how != "alone":
            trained = DistributedDataParallel(module)
            trained.register_comm_hook(None, seen)
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.02, fused=True)
        generator = torch.Generator().manual_seed(10 + rank)
        for step in range(8):
            if runs == die and rank == 0 and step == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            x, y = torch.randn(8, 6, generator=generator), torch.randint(3, (8,), generator=generator)
            optimizer.zero_grad()
            F.cross_entropy(trained(x), y).backward()
            nn.utils.clip_grad_norm_(module.parameters(), 0.5)
            optimizer.step()

    model = mlp()
    found: dict[str, object] = {}
    try:
        ticket = find_ticket(model, train, lambda m: float(rank), levels=3, rate=0.3, rewind_to=2, store=store, key="d")
        found = {"mask": ticket.mask.digest, "metrics": [row.metric for row in ticket.history]}
        found |= {"weights": digest_tensors(ticket.weights), "trained": digest_tensors(ticket.trained or {})}
    except TombolaError as error:
        found = {"error": str(error)}
    (out / f"{rank}.json").write_text(json.dumps({**found, "runs": runs, "dirty": dirty, "checked": checked}))
    dist.barrier()


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    words = sys.argv[1:]
    for start in range(0, len(words), 4):
        store, out, die, how = words[start : start + 4]
        find(store, Path(out), int(die), how)
    os._exit(0)  # the teardown of gloo's threads aborts now and then, with everything done and written

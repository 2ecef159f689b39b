"""Start RootPainter's own training server, with epochs that fit a few minutes.

Run by the Python of an environment in which root-painter-trainer (GPL-2.0) is installed, never by
ours, and imported by nothing: python rootpainter_server.py FOLDER PATCH_SIZE TILES

An epoch of the server has 612 patches; only after each does it look whether the weights got
better, and hand them out. On a CPU that is an hour. TILES says how many there are instead.

The package index has torchvision for CUDA only. Beside a torch for the CPU its compiled operators
cannot be loaded, and then it cannot be imported either, though the trainer needs nothing of it but
`ColorJitter`, which is plain Python. So the operators that it asks for by name are declared, with
nothing behind them: whoever called one would get an error.
"""

import os
import sys
import threading
from functools import partial

import torch

COMPILED = torch.library.Library("torchvision", "FRAGMENT")
if not torch.cuda.is_available():
    for operator in ("nms", "qnms"):
        COMPILED.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import root_painter_trainer  # noqa: E402, F401  (it puts its modules on the path)
import trainer  # noqa: E402


def end_with_whoever_started_us() -> None:
    """Wait until the other end of our standard input is gone, however it ended."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_whoever_started_us, daemon=True).start()
    folder, patch_size, tiles = sys.argv[1:]
    trainer.TrainDataset = partial(trainer.TrainDataset, min_epoch_tiles=int(tiles))
    server = trainer.Trainer(sync_dir=folder, patch_size=int(patch_size), max_workers=0)
    server.main_loop()

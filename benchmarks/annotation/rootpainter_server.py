"""Start RootPainter's own training server, with epochs that fit a few minutes.

Run by the Python of an environment in which root-painter-trainer (GPL-2.0) is installed, never by
ours, and imported by nothing: python rootpainter_server.py FOLDER PATCH_SIZE TILES

An epoch of the server has 612 patches; only after each does it look whether the weights got
better, and hand them out. On a CPU that is an hour. TILES says how many there are instead.
"""

import sys
from functools import partial

import root_painter_trainer  # noqa: F401  (it puts its modules on the path)
import trainer

if __name__ == "__main__":
    folder, patch_size, tiles = sys.argv[1:]
    trainer.TrainDataset = partial(trainer.TrainDataset, min_epoch_tiles=int(tiles))
    server = trainer.Trainer(sync_dir=folder, patch_size=int(patch_size), max_workers=0)
    server.main_loop()

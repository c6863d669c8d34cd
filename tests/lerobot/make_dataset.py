"""usage: make_dataset.py DIR: a LeRobotDataset of 4 episodes of 12 frames with one 64×64 camera. Run by a LeRobot environment."""

import sys

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

joints = {"dtype": "float32", "shape": (2,), "names": ["shoulder", "elbow"]}
camera = {"dtype": "image", "shape": (64, 64, 3), "names": ["height", "width", "channels"]}
dataset = LeRobotDataset.create(
    repo_id="local/tiny", root=sys.argv[1], fps=10, use_videos=False,
    features={"observation.images.front": camera, "observation.state": joints, "action": joints},
)  # fmt: skip
random = np.random.default_rng(0)
for _ in range(4):
    for _ in range(12):
        dataset.add_frame({
            "observation.images.front": random.integers(0, 256, (64, 64, 3), dtype=np.uint8),
            "observation.state": random.random(2, dtype=np.float32),
            "action": random.random(2, dtype=np.float32),
            "task": "reach",
        })
    dataset.save_episode()
dataset.finalize()

"""What a training step of a LeRobot policy costs, from the policy's own code, without a GPU and without weights.

fake      tensors without storage: live bytes, FLOPs, and what CUDA does differently from a CPU
models    in place of what a policy reads from the Hub: configurations written down, weights random
grid      which policies and variants are profiled, in which order; which are not, and why
measure   one policy at one variant and camera set: builds it, trains a step at each batch size, fits the line
"""

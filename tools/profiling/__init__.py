"""What a training step of a LeRobot policy costs, from the policy's own code, with random weights and without a download.

models    in place of what a policy reads from the Hub: configurations written down
build     a policy and its batch
fake      tensors without storage: live bytes, FLOPs, and what CUDA does differently from a CPU
grid      which policies and variants are profiled, in which order; which are not, and why
measure   one case on fake tensors: trains a step at each batch size, fits the line
steps     one case on real tensors: seconds a step and the allocator's peak
"""

"""From a workload on an offer to jobs, one module a kind of training."""

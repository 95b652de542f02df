"""Training on several machines or processes: thin adapters to torchrun, Ray and TorchRec.

What workers share of a batch and of its gradients is in `training.workers`; nothing here knows a model.
"""

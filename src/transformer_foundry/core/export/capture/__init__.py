"""Capture a model as a graph with ``torch.export``: patches, branches, shape guards."""

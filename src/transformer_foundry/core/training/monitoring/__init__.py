"""What watches a run: metrics, loss spikes, time budget, validation, when each is due."""

"""Start a run from existing weights: ``source`` reads and verifies them, ``transfer`` fills the model."""

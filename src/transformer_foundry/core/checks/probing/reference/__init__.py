"""Reference of a run in float64: ``shadow`` computes it operation by operation, ``scales`` prepares weights."""

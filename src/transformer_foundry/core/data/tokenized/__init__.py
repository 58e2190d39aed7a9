"""Token ids on disk: packing, memory-mapped files, the splits that training reads."""

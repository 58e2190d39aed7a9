"""Files: atomic writes, folder manifests, provenance, locks, JSON lines."""

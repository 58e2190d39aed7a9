"""Files: atomic writes, folder manifests, locks, JSON lines."""

"""Where datasets keep files: local paths, places that fsspec reaches, folders with versions. Begin with ``folder``."""

"""Read an export (a folder, a zip file or a gist), scan its code and require its approval. Begin with ``read``."""

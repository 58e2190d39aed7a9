"""Google Drive: copy checkpoints and files, restore them, one writer at a time. Begin with ``callback``."""

"""Checkpoints. ``state`` says what is kept, ``async_copy`` copies it, ``checkpoint`` writes and reads it, ``directory``
finds the newest intact one, ``compatibility`` says whether a run may resume from it."""

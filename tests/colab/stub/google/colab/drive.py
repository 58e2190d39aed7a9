"""A Drive that the user refuses to mount."""


def mount(mountpoint, force_remount=False, timeout_ms=120000, readonly=False):
    raise ValueError("mount failed: the user gave no permission")

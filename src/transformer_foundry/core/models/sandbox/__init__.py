"""Try external code in a process without network access and with few files, before it runs in this one.

``approve`` is the entry point. ``trial_run`` starts the process, ``trial_process`` runs in it, ``watcher`` records what
it tries; ``landlock`` (files), ``seccomp`` (``system_calls``) and ``audit_hook`` (Python's own events) restrict it.
"""

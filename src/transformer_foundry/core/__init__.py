"""The plain library: functions, generators and small dataclasses that know neither Kedro nor a tracker.

From the lowest layer: ``base`` (errors, options); ``files`` (atomic writes, locks) and ``system`` (device, memory);
``models`` (read, build, contract, losses); ``data`` (sources, tokenizer, batches); ``checks``; ``evaluation``;
``training`` (loop, ``optim``, ``memory``, ``checkpointing``); ``export`` (``formats``, verification); ``experiments``
(search and comparison, no trackers); ``publishing`` (package, Hub, registry); ``reports``.
"""

"""The plain library: functions, generators and small dataclasses that know neither Kedro nor a tracker.

From the lowest layer: ``base`` (errors, options); ``files`` (atomic writes, locks) and ``system`` (device, memory);
``models`` (read, build, contract, losses); ``data`` (file types, tokenizer, batches); ``checks`` (of a model, before
training); ``evaluation``; ``training`` (loop, ``memory``, ``checkpointing``, ``optim``: optimizers and learning-rate
schedules); ``export`` (``formats``, verification); ``studies`` (search and comparison);
``publishing`` (package, Hub, registry); ``reports``.
"""

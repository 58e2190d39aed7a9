"""Trackers, one callback each; at present Weights & Biases, online and offline: begin with ``wandb_callback``.

All modules ``wandb_...`` belong to W&B: ``wandb_run`` opens a run and logs rows, ``wandb_offline_log`` reads what an
offline one holds, ``wandb_replay`` logs a finished one.

To add a tracker:

1. Write a ``Callback`` in a module here (``hooks.callback`` lists the methods), its library imported inside functions,
   with the ``nesting`` of ``WandbCallback``. ``on_progress`` comes before a checkpoint has saved the step: a tracker
   whose rows cannot be rolled back waits for ``on_checkpoint``, as that one does. Log results with ``is_new=False``,
   those of an earlier command, only if you have not yet. State that a resumed run needs, such as its id, is a file of
   its own in the run's folder, named in ``core.files.run_paths`` and in ``RUN_FILES`` of
   ``hooks.drive.checkpoint_sync``.
2. Export it in ``hooks`` and add an instance beside ``WandbCallback`` in ``transformer_foundry/settings.py``.
3. Its options are a dataclass in ``config.hook_options`` and a section of its own in ``config.parameters.SECTIONS``:
   the section ``tracking`` is that of W&B.
4. Its key is an entry of ``console.service_keys``: Colab's secrets and ``kedro doctor`` follow from it; a key that a
   login stores in a file goes into ``cli.doctor._stored_key``, a known form of its keys into ``_VALUES`` of
   ``core.base.secrets``. Refuse a mode that needs the key in ``hooks.preflight.training``, beside ``_require_key``.
5. For a link in the model card, read its address in ``tracking_url`` of ``core.publishing.package.manifest``.
6. Name the library in ``pyproject.toml`` and ``constraints.txt`` (then ``make lock``) and in ``PACKAGES`` of
   ``core.system.environment``; silence it in ``console.third_party``. Describe the section in ``docs/tracking.md``.
"""

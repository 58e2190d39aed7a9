"""Trackers, one callback each; at present Weights & Biases, online and offline: begin with ``wandb_callback``.

To add one, write a ``Callback`` here, export it in ``hooks`` and add an instance beside ``WandbCallback`` in
``transformer_foundry/settings.py``; its options are a dataclass in ``config.hook_options`` and an entry in
``config.parameters.SECTIONS``.
"""

"""Transformer Foundry: from a transformer drawn in Transformer Builder to a trained, published model.

Everything that works without Kedro is in ``core``: models, checks, data, training, export, publishing. Around it are
``pipelines`` (thin nodes), ``datasets`` (where results are kept; text is read in ``core.data``), ``hooks`` (callbacks:
progress, tracking, Drive, report; listed in ``settings``), ``config``, ``console``, ``cli`` and ``notebook``.

What is often added has its steps in the docstring of a module: a check of the model in ``core.checks``, a file type of
training data in ``core.data.sources.files``, a schedule of the learning rate in ``core.training.optim.schedules``, an
export format in ``core.export.formats``, an architecture of transformers in ``core.export.native.families``, a tracker
in ``hooks.tracking``.
"""

__version__ = "0.1.0"

"""Transformer Foundry: from a transformer drawn in Transformer Builder to a trained, published model.

Everything that works without Kedro is in ``core``: models, checks, data, training, export, publishing. Around it are
``pipelines`` (thin nodes), ``datasets`` (where results are kept; text is read in ``core.data``), ``hooks`` (callbacks:
progress, tracking, Drive, report; listed in ``settings``), ``config``, ``console``, ``cli`` and ``notebook``.
"""

__version__ = "0.1.0"

"""Infer the contract of a model from its configuration, its signature and its behavior.

Reading order: ``infer_contract`` (the steps), ``config_hints`` (what ``config.json`` says), ``argument_roles`` (what
the signature says), ``probe`` (calls with made-up ids), ``sizes``, ``task`` with ``behavior`` (causality, loss) and
``output_format`` (where the logits are), and ``mask_conventions``. ``call`` turns a finished contract into the
arguments of a call.
"""

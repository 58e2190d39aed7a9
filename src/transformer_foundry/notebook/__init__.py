"""Functions for notebooks: run pipelines, show the verdict, try the model."""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.notebook.session import find_project as find_project
    from transformer_foundry.notebook.session import run as run
    from transformer_foundry.notebook.session import show_model as show_model
    from transformer_foundry.notebook.try_model import answer as answer
    from transformer_foundry.notebook.try_model import free_memory as free_memory
    from transformer_foundry.notebook.try_model import show_batch as show_batch
    from transformer_foundry.notebook.validation_view import describe_machine as describe_machine
    from transformer_foundry.notebook.validation_view import memory_sentence as memory_sentence
    from transformer_foundry.notebook.validation_view import structure_table as structure_table
    from transformer_foundry.notebook.validation_view import verdict_html as verdict_html
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)

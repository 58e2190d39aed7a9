"""Location in a model: the drawn block, the file and line, the module."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace

from torch import nn

from transformer_foundry.core.checks.probing.drawn_graph import Graph, Node
from transformer_foundry.core.checks.probing.source_map import SourceLine, SourceMap

__all__ = ["Location", "Locator"]

# Types of drawn blocks that add the results of others, and that do not change the width of the residual stream.
JOINING = ("residual", "add", "sum", "skip")
PRESERVING = ("input", "embedding", "layernorm", "norm", "rmsnorm", "dropout")


@dataclass(frozen=True)
class Location:
    """A location in a model; every part may be unknown.

    Attributes:
        module: Path of the module, for example ``blocks.0.attn``.
        line: Line of the source.
        block: The drawn block.
        file_name: Name of the file, for messages.
        class_name: Class of the module.
    """

    module: str | None = None
    line: SourceLine | None = None
    block: Node | None = None
    file_name: str = "model.py"
    class_name: str = ""

    def __str__(self) -> str:
        parts = [f"block {self.block.id}"] if self.block else []
        if self.line is not None:
            parts.append(f"{self.file_name}:{self.line.number}")
        if self.module:
            parts.append(f"module {self.module}" + (f" ({self.class_name})" if self.class_name else ""))
        elif self.class_name:
            parts.append(self.class_name)
        return ", ".join(parts)

    def instruction(self, action: str) -> str:
        """Return ``action`` as a sentence, behind the drawn block if there is one: ``block mhsa_0: set causal``."""
        return f"block {self.block.id}: {action}" if self.block and action else action[:1].upper() + action[1:]


class Locator:
    """Finds the location of modules, parameters and lines.

    Args:
        model: The model, None when it could not be built.
        source: Its source.
        graph: The drawn graph, empty when there is none.
    """

    def __init__(self, model: nn.Module | None, source: SourceMap, graph: Graph) -> None:
        self.source, self.graph = source, graph
        self.modules = dict(model.named_modules(remove_duplicate=False)) if model is not None else {}

    def module(self, path: str, line: SourceLine | None = None) -> Location:
        """Return the location of a module; ``line`` is the call, or the definition when None."""
        module = self.modules.get(path)
        line = line or self._definition(path)
        block = self.graph.node_of(path) or self._block_at(line)
        return Location(path or None, line, block, self._file_name(line), type(module).__name__ if module else "")

    def attribute(self, owner_path: str, attribute: str) -> Location:
        """Return the location that sets an attribute (a parameter, a tensor, a list) of a module."""
        owner = self.modules.get(owner_path)
        line = self.source.attribute_line(type(owner), attribute) if owner is not None else None
        path = f"{owner_path}.{attribute}" if owner_path else attribute
        line = line or self._definition(owner_path)
        return Location(path, line, self.graph.node_of(path) or self._block_at(line), self._file_name(line))

    def at(self, line: SourceLine | None, module: str | None = None) -> Location:
        """Return the location of a line of the source, inside ``module`` if that is known."""
        block = self._block_at(line) or self.graph.node_of(module)
        found = self.modules.get(module) if module else None
        return Location(module or None, line, block, self._file_name(line), type(found).__name__ if found else "")

    def raised(self, error: BaseException) -> Location:
        """Return the location that raised ``error``: the line, the module that ran it, the drawn block."""
        calls = self.source.raising_calls(error)
        paths = {id(module): path for path, module in reversed(self.modules.items())}
        running = (paths.get(id(owner)) for _, owner in calls)
        location = self.at(calls[0][0] if calls else None, next((path for path in running if path is not None), None))
        if location.block is None and self.graph:
            blocks = (self._block_at(line) for line, _ in calls)
            location = replace(location, block=next((block for block in blocks if block is not None), None))
        return location

    def through_joins(self, location: Location) -> Location:
        """Return ``location``, or the block that feeds it if it only adds blocks: the shape of a term is the cause."""
        file = self.source.files.get(location.line.path) if location.line is not None else None
        if file is None or location.line is None or location.block is None or location.block.type not in JOINING:
            return location
        statement = file.statement_at(location.line.number)
        names = [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)] if statement is not None else []
        blocks = [block for block in map(self.graph.node_of, names) if block is not None]
        fed = [block for block in blocks if block.type not in JOINING and block.type not in PRESERVING]
        return replace(location, block=fed[-1]) if fed else location

    def forward(self) -> Location:
        """Return the location of the model's ``forward``."""
        root = self.modules.get("")
        line = self.source.class_line(type(root), "forward") if root is not None else None
        return Location(None, line, None, self._file_name(line), f"{type(root).__name__}.forward" if root else "")

    def call_of(self, names: set[str]) -> Location:
        """Return the location of the first call of a function in ``names``, otherwise of ``forward``."""
        line = self.source.call_line(names)
        return self.at(line) if line is not None else self.forward()

    def parent_of(self, path: str) -> str:
        """Return the path of the module that holds ``path``."""
        return path.rpartition(".")[0]

    def _definition(self, path: str) -> SourceLine | None:
        """Return the line that creates a module, in the nearest module above it whose class is in the source."""
        owner, attribute = path, ""
        while owner:
            owner, _, attribute = owner.rpartition(".")
            holder = self.modules.get(owner)
            line = self.source.attribute_line(type(holder), attribute) if holder is not None else None
            if line is not None:
                return line
        root = self.modules.get("")
        return self.source.class_line(type(root)) if root is not None else None

    def _block_at(self, line: SourceLine | None) -> Node | None:
        if line is None or not self.graph:
            return None
        file = self.source.files.get(line.path)
        return self.graph.node_of_statement(file.statement_at(line.number)) if file is not None else None

    def _file_name(self, line: SourceLine | None) -> str:
        file = self.source.files.get(line.path) if line is not None else None
        return file.name if file is not None else self.source.main.name

"""GGUF: a native decoder with its tokenizer in one file, as llama.cpp and Ollama read it.

Begin with ``package.add_gguf``. ``layout`` has the names and shapes of llama.cpp, ``vocabulary`` the tokenizer;
``file`` writes and reads; ``reference`` computes logits from the file alone; ``llama_cpp`` runs it in llama.cpp.
To add an architecture, add a ``Family`` to ``FAMILIES`` of ``layout`` and its computation to ``reference``.
"""

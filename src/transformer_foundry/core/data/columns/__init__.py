"""From a row to a document: which columns are the parts of a prompt, the answer, the text, the label.

``choose`` chooses the columns, ``roles`` knows what their names mean, ``prompts`` joins the parts of a prompt,
``documents`` converts rows, ``unread`` finds
what inside the cells is left out. A new word for a part of a prompt is added in ``roles``.
"""

"""Compare exported files with the model: reference inputs, exact parity, quality of smaller variants, reports."""

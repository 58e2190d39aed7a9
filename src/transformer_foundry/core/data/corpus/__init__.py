"""Documents before tokenization: cleaning, near duplicates, assignment to splits."""

"""Tables in JSON: ``lines`` of objects, a ``document``, whose ``layouts`` are those of pandas and others."""

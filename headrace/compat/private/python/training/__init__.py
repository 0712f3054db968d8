"""See headrace/compat/private/__init__.py."""

"""What tests and benchmarks count in syntax trees."""

import ast


def function_lengths(tree):
    """Name and lines of every function of a module, without docstrings and without `__init__`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield node.name, body[-1].end_lineno - body[0].lineno + 1 if body else 0

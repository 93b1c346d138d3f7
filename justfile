# One command for each habit. `just --list` shows them.

# Everything that a fresh machine must pass
ci:
    .ci/run

# All tests, on two processes
test *args:
    python -m pytest -n 2 --dist loadfile {{args}}

# Lint, types, and the tests that take less than ten seconds each
fast *args: lint types
    python -m pytest -n 2 --dist loadfile -m 'not slow' {{args}}

# Lint and format
lint:
    ruff check dl experiments tests tools
    ruff format --check dl experiments tests tools

# Types
types:
    mypy

# The pages and the README, run as they stand
docs:
    python -m pytest tests/test_readme.py tests/test_docs.py tests/colab tests/tools

# The documentation as a site, in site/ (needs the extra docs)
docs-site *args:
    mkdocs build --strict {{args}}

# The tables of docs/results.md, from experiments/results.toml
results *args:
    python tools/results_table.py {{args}}

# A benchmark by name, such as mlp or loop
bench name *args:
    python tests/benchmarks/{{name}}.py {{args}}

"""Coverage, and what spoils files and kills builds on purpose; not in the wheel.

For the tests, `make coverage` and `make torture`.
"""

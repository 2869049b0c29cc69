"""What spoils files and kills builds on purpose: for the tests and `make torture`, not in the wheel."""

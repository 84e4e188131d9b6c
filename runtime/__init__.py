"""Runs one process in a sandbox. Imports neither builder nor frontend; ``runtime.linux`` is the door to the kernel."""

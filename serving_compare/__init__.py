"""Artifacts -> report: time the three runtimes fairly and say what was measured."""

"""Load over HTTP: a generator that keeps its schedule, capacity searches, endurance tests."""

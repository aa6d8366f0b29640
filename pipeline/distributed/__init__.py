"""Training on several devices or machines at once, each taking its share of every batch."""

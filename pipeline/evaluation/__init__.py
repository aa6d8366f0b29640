"""How good a trained model is, class by class, how sure of itself, and how sure we are of that."""

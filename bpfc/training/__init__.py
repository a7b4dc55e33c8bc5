"""Training: recipes, the engine that follows one, and the folder that a run leaves."""

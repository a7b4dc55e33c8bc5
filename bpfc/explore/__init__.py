"""A small page that is alive: an image, its bit planes, and an attack on networks side by side, step by step."""

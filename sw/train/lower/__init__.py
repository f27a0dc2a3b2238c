"""From a training step to one program: memory, vector phases, products, and their order."""

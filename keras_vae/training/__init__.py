"""How a model is trained: one step, what runs inside it, and how it is run (see README.md)."""

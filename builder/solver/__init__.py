"""The solver: walks edges of a graph, finds what is cached by the least data, executes the rest in parallel, each vertex once."""

"""The embedded serving environment: one process routes requests to one scorer process per model version."""

"""Pure rules: the standard library and numpy only, no I/O, no clock, no environment."""

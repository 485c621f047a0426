"""The demo: the flights data, the story that `make demo` tells, and its live view."""

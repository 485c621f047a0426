"""One module per stage of the journey; each stage is a function of its inputs and the ports it needs."""

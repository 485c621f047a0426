"""Traffic: scoring requests as callers would send them, at a steady pace."""

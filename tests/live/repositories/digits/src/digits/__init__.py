"""Which digit is this?"""

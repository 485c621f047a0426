"""How many minutes will this flight be in the air?"""

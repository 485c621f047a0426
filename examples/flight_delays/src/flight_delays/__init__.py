"""Will this departure from New York arrive more than 15 minutes late?"""

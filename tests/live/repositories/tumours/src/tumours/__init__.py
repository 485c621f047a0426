"""Is this tumour malignant?"""

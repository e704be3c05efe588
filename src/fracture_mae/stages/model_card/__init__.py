"""What a classifier is, what it was made from, how good it is, and what it must not be used for, on a page of its own.

After M. Mitchell et al., "Model cards for model reporting", FAT* 2019, with the items of two checklists that journals ask for:
CLAIM 2024 (A. Tejani et al., "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update", Radiology: Artificial
Intelligence 6, 2024) and TRIPOD+AI (G. Collins et al., "TRIPOD+AI statement: updated guidance for reporting clinical prediction models
that use regression or machine learning methods", BMJ 385, 2024).
"""

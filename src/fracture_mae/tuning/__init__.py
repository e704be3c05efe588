"""Tuning campaigns: which class weight, threshold and other settings are best for what a user cares about.

`objectives` says what is best, `space` what may vary, `heads` and `depths` how a trial is made, `study` and `campaign` how
trials are shared by workers and survive them, `trial_runs`, `results` and `figures` what is shown.
"""

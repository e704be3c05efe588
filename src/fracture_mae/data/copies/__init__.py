"""Which files show the same X-ray: keypoints, candidates, alignment, links, groups."""

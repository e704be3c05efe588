"""Boxes around fractures as people keep them: columns of a CSV, a boxes.csv, YOLO's text files and COCO's JSON."""

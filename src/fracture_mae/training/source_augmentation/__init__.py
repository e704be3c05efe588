"""Changes of an X-ray that alter what tells of its source and leave its bone: tones, detail, frames, marks."""

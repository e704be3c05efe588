"""From a folder or a CSV to decoded pictures: index, hashes, decoding, cache."""

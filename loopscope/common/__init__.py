"""What every package needs: errors, files, random numbers, JSON, text, the shelves, the base of
results."""

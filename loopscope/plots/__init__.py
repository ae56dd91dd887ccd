"""What all figures share: style, panels and heat maps. Other folders draw in their own
figures.py."""

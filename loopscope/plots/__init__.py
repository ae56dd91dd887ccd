"""What all figures share: style, panels and heat maps. Each folder's own figures are in its
figures.py."""

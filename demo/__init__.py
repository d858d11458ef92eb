"""The embedded demo model, the world it was trained on, and the scripts that made it."""

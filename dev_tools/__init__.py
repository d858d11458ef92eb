"""What `dev.py` is made of: finding a ComfyUI and its Python, a private server, the demo and the tests.

Standard library only, and never imported by the pack.
"""

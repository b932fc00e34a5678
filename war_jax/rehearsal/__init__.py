"""Programs compiled for accelerators that are not there: do they fit, what are they made of?"""

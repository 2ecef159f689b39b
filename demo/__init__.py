"""The journey from an image to a corrected mask, driven with a real mouse in a real window."""

"""Models as BioImage.IO packages, which many programs for microscopy read and write."""

"""Training: losses, the loop of the denoisers, and the recognizer's."""

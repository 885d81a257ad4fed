"""Write datasets for training."""

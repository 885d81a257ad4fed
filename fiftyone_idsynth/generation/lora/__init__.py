"""Training of LoRA weights: buckets, examples, cached latents, the training itself, and the files that come of it."""

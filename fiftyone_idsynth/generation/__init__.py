"""Make new images."""

STAGES = ("compose", "generate", "train_lora", "recontextualize", "outpaint")
"""The modules that hold stages."""

"""Make new images."""

STAGES = ("compose", "generate", "train_lora", "restyle", "recontextualize", "outpaint")
"""The modules that hold stages."""

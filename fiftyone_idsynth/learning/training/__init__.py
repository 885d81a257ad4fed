"""Training models on what people labelled: which examples, how the weights change, and what comes of it."""

"""What the learning loop knows of its rounds: their record, when to stop, and the curve of labels against quality."""

"""The link to Label Studio: tasks go out with what a model says, answers of people come back."""

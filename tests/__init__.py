"""The tests: a package of this name among the installed ones would hide them otherwise."""

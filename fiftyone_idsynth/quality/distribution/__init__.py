"""How well a set of images follows another one, and how varied, balanced and free of leaks it is."""

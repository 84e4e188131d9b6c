"""The image store of the state folder: names of images, and what tags resolved to."""

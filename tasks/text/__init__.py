"""A transcript on its way through a text model: what was asked, the parts it is cut into, what came back."""

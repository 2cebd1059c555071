"""What a run is made of, a section each: frozen and checked."""

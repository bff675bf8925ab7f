"""What the encoders share: lanes, vectors, searches, the loops around super-blocks and row scales."""

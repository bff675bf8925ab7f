"""The I-quants whose codes are points of a grid."""

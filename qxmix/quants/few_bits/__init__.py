"""Types of one or two bits that only round."""

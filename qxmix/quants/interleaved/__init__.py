"""Types that store several rows side by side, and the 8-bit and 1-bit types that exist in such forms only or first."""

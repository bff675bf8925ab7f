"""The importance workshop: importance matrices as values that are merged, converted, compared and described."""

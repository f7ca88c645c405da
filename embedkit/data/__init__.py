"""Tables, codecs, columns, batches and the loaders that make them."""

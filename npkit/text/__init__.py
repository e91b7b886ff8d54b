"""Text: what people write, and the language model that continues it."""

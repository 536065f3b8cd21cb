"""The story, made durable."""

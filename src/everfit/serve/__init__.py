"""The model server: it answers, it logs every answer, and it takes rows in."""

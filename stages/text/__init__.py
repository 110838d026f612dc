"""What any part may do to a text: its id, what must be broken up before a model reads it, what must be escaped before a
person does."""

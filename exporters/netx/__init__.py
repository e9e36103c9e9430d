"""lava-dl's .net files."""

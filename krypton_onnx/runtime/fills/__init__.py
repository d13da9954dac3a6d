"""What stands in a patch's place: numbers, words, functions, and the shapes that they fill. Arrays only, no session."""

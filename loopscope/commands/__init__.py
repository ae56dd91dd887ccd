"""Commands of the command line, and the options they share, that are a file of their own."""

"""Typed instructions: AST nodes in, frozen values out; and the expansion of the variables in them."""

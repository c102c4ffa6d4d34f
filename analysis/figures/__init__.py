"""Figures, one file each: a frozen value of the numbers that it shows, and the function that draws them."""

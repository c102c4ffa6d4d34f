"""softprior: how far does the prior of a trained prompt decide its posterior?"""

__version__ = "0.1.0"

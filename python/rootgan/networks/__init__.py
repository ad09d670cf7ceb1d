"""Our scriptable StyleGAN2, written from arXiv 1912.04958 and 2006.06676, with the parameter names in circulation."""

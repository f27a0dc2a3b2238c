"""DeLTA (ISPASS 2019): traffic at every level of a GPU's memory and the time of a convolution layer, in closed form."""

"""Studies made with the package: depth against width, and what goes wrong in ports."""

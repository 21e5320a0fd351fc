"""Studies made with the package: depth against width, and common mistakes in ports."""

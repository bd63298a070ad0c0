"""Ways to find whole objects in one photo, behind one registry."""

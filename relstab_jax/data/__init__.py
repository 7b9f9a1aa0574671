"""The scale-detection tasks, and images from data sets, folders and arrays."""

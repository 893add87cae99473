"""The client's settings and saved passwords, and the files that contain them."""

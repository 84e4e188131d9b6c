"""From refs and configs to images, folders and tars."""

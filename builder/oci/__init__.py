"""The OCI specs' nouns, read and written once: digest, descriptor, platform, reference, manifest, index, image config.

Pure: no disk, no network. Everything that comes from a registry or a layout goes through these parsers.
"""

"""The vocabulary that frontend and engine share: vertices, edges, op definitions, image configs, references, platforms, patterns.

Plain frozen data without effects: everything here can be built, compared, digested and serialised without a disk.
"""

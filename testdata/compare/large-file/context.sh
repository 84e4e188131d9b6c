# Three MiB that do not compress to nothing, with a hole of one MiB.
seq 1 400000 | head -c 2097152 > big; truncate -s 3M big; printf end >> big

mkdir -p empty nested/empty
touch -d '2011-01-01 UTC' nested/empty nested empty

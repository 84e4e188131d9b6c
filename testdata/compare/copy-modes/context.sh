# Modes that git does not keep.
chmod 755 tool; chmod 400 secret; chmod 4711 setuid; mkdir -m 1777 sticky; mkdir -m 700 closed; echo x > closed/x
touch -d '2001-02-03 04:05:06.7 UTC' secret; touch -d '1969-12-31 23:59:00 UTC' tool; touch -d '2100-01-01 UTC' setuid
